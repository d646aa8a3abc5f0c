package drive

// Gathers is how many large buffers writers have.
func (d *Local) Gathers() int { return int(d.buffers.gathers.Load()) }

// Gather is the size of the buffer that a writer's blocks gather in now.
func Gather(w ShardWriter) int { return cap(w.(*writer).buf) }
