package replica

const minTrailing = 512
