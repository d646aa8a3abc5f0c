# For the scripts beside it. They run as root in an empty directory.
export LC_ALL=C
say() { echo "# $*"; }
# try shows a command, what it says (of an error, the reason) and with what it ended.
try() {
	echo "$ $*"
	"$@" 2>&1 | sed -E 's/^(cat|dd|ls|touch|setfacl|setfattr|getfacl|cp|mv|rm|mkdir|rmdir|ln|chmod|chown|chgrp|tee|truncate|sh|mknod): .*: ([A-Z][a-z ]+)$/\2/'
}
# as UID:GID runs a command as somebody without privileges.
as() {
	who=$1
	shift
	setpriv --reuid "${who%:*}" --regid "${who%:*}" --groups "${who#*:}" --inh-caps=-all --bounding-set=-all "$@"
}
