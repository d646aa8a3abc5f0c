package serve

import "twofold/test/powerfs/internal/disk"

// invalidate makes the kernel write back and drop the pages it has cached of i. It
// waits for requests of ours, so it is never called in one.
func (m *mount) invalidate(i *disk.Inode) {
	if i.IsFile() {
		m.server.InodeNotify(i.No, 0, 0)
	}
}

// dropCaches invalidates all files that match the pattern, "" for all.
func (m *mount) dropCaches(pattern string) {
	for _, i := range m.disk.Files() {
		if pattern == "" {
			m.invalidate(i)
			continue
		}
		for _, p := range i.Paths() {
			if matchPath(pattern, p) {
				m.invalidate(i)
				break
			}
		}
	}
}
