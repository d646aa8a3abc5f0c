package fusefs

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/volume/api"
)

// Files that are read through the kernel's pages (Options.Pages). The kernel then reads
// ahead, and keeps what it has read, which costs no request at all. It is for large files
// that are opened for reading only, under a read lease, while nobody here has them open for
// writing; everything else passes the pages by, see fsys.open.
//
// What the kernel does with a read(2) of such a file (fs/fuse/file.c, fuse_cache_read_iter;
// mm/filemap.c, filemap_read) is this: it asks GETATTR, unless it has attributes whose timeout
// is not over; then it takes page after page, from its cache or with READs, and looks at the
// file's size for each. So
//
//   - there is no page of before a change in a read(2) that begins behind it, as its GETATTR
//     is answered when such pages are gone (awaitPages), and attributes are only given for
//     a time under the lease (attrTimeout). A mount that is stopped, or cut off, leaves
//     the kernel with pages that it asks about at the end of that time, a second at most;
//   - no change comes between the pages of one read(2): whatever changes the content, here or
//     elsewhere, first shuts the gate (shut), at which GETATTR waits, and lets those that
//     have begun come to their end. Nobody tells when that is: they are given readTime;
//   - a GETATTR that waited there was overtaken by notifications, so that the kernel does not
//     take its answer: it is given the size in another way (grow).
const (
	pageLen    = 4096    // bytes; where the kernel's pages are larger, of a part of one
	leastPaged = 1 << 20 // a smaller file is one request when it passes the pages by, and mostly kept here
	// readTime is how long a read(2) of pages may take behind the kernel's look at the
	// attributes, where no READ of it comes here. It copies memory: of a MiB in less than
	// a ms, but it may have to wait for a processor.
	readTime = 100 * time.Millisecond
	// deliveryTime is how long an answer may be on its way to the kernel. A notification
	// that overtakes one of attributes makes the kernel drop it, and read by an older size.
	deliveryTime = 10 * time.Millisecond
	queueTime    = 100 * time.Millisecond // likewise a question
	pageCool     = 10 * time.Second       // a file that changed while it was read so is not opened so again for so long
	// What cannot be waited for any longer: a lease that is not granted, a READ that is not
	// answered (it may wait for whoever waits for us).
	pagePatience = time.Second
)

// paging is what a node knows of reads of the kernel's pages; guarded by node.mu.
type paging struct {
	files  int       // open ones that are read so
	begun  time.Time // no read(2) of pages has begun, or will without asking, behind that
	told   time.Time // when attributes were answered last
	asking int       // GETATTRs that have passed the gate and are not answered yet
	reads  int       // READs of pages that are not answered yet
	gates  int       // changes that are about to happen, or do
	passes uint64    // how often the gate was shut
	noting int       // notifications that are under way
	noted  time.Time // when the last one was
	size   int64     // that the kernel was made to have, see grow,
	sized  uint64    // when there were so many passes
	cool   time.Time // until then it is opened for direct I/O
	bereft time.Time // until then nothing waits for a lease, as there was none to be had
}

// mayPage reports whether an open file with these flags may be read through pages.
func (f *fsys) mayPage(flags uint32) bool {
	return f.opts.Pages && f.direct && flags&syscall.O_ACCMODE == syscall.O_RDONLY && flags&(syscall.O_DIRECT|syscall.O_TRUNC) == 0
}

// usePages opens h for reads of pages, if the file is one for that. n.mu is held.
func (n *node) usePages(h *file) {
	now := time.Now()
	if n.writers > 0 || n.lease != leaseNone || n.op || n.stale != nil || n.paging.gates > 0 || now.Before(n.paging.cool) {
		return
	}
	a, ok := n.fs.cache.attr(n.ino)
	if !ok || a.Size < n.fs.opts.leastPaged {
		return
	}
	h.direct, h.paged, h.ahead = false, true, nil
	n.paging.files++
	// What the kernel was given of attributes it may go by.
	n.paging.begun = now.Add(maxTimeout + kernelSlack)
}

// pagesUnused is the end of an open file that was read through pages: the kernel tells of
// it when its last read(2) is over.
func (n *node) pagesUnused() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paging.files--
	n.broadcast()
}

// shut keeps reads of pages from beginning, until reopen, and waits until those that have
// begun are over. n.mu is held, but not while it waits. Whoever changes the content, or lets
// others change it, does so behind it. An error is that of ctx, and the gate is open.
func (n *node) shut(ctx context.Context) error {
	p := &n.paging
	if p.files == 0 {
		p.gates++ // nor is it opened for such reads now
		return nil
	}
	p.cool = time.Now().Add(pageCool)
	for end := time.Now().Add(n.fs.opts.readTime); p.asking > 0; { // they have their turn
		if ok, err := n.pause(ctx, end); err != nil {
			return err
		} else if !ok {
			break
		}
	}
	p.gates++
	p.passes++
	err := n.quiet(ctx)
	if err != nil {
		n.reopen()
	}
	return err
}

// quiet waits, the gate being shut, until no read(2) of pages is under way. n.mu is held.
func (n *node) quiet(ctx context.Context) error {
	p := &n.paging
	if p.begun.After(time.Now()) {
		if err := n.ask(ctx); err != nil {
			return err
		}
	}
	for patience := time.Now().Add(pagePatience + n.fs.opts.readTime); p.files > 0; {
		end := p.begun.Add(n.fs.opts.readTime)
		if p.reads > 0 || end.After(patience) {
			end = patience
		}
		if ok, err := n.pause(ctx, end); err != nil || !ok {
			return err
		}
	}
	return nil
}

// ask makes the kernel ask for attributes before the next read(2) of pages. n.mu is held.
func (n *node) ask(ctx context.Context) error {
	for end := n.paging.told.Add(deliveryTime); ; {
		if ok, err := n.pause(ctx, end); err != nil {
			return err
		} else if !ok {
			break
		}
	}
	n.mu.Unlock()
	st := n.fs.kernel.InodeNotify(uint64(n.ino), -1, 0)
	n.mu.Lock()
	if now := time.Now(); st == fuse.OK && n.paging.begun.After(now) {
		n.paging.begun = now
	}
	return nil
}

// pause is wait until t at most; ok is false when t is over.
func (n *node) pause(ctx context.Context, t time.Time) (ok bool, err error) {
	d := time.Until(t)
	if d <= 0 {
		return false, nil
	}
	short, stop := context.WithTimeout(ctx, d)
	defer stop()
	if n.wait(short) != nil && ctx.Err() != nil {
		return false, canceled("pause", ctx)
	}
	return true, nil
}

// reopen ends shut; n.mu is held.
func (n *node) reopen() {
	n.paging.gates--
	n.broadcast()
}

// grow makes the kernel have the size of the file, where its GETATTR may have crossed a
// notification: then it does not take the answer (attr_version), and would read up to the
// end of before. Storing the last page tells it of a larger size; of a smaller one READs do,
// which are short. n.mu is held, but not meanwhile.
func (n *node) grow(ctx context.Context, size int64) error {
	p := &n.paging
	passes, kver := p.passes, n.kver
	if size > 0 {
		p.asking++
		n.filled = true
		n.mu.Unlock()
		off := (size - 1) / pageLen * pageLen
		b := make([]byte, size-off)
		k, err := n.read(ctx, off, b, false, nil)
		if err == nil && k == len(b) {
			n.fs.kernel.InodeNotifyStoreCache(uint64(n.ino), off, b)
		}
		n.mu.Lock()
		p.asking--
		n.broadcast()
		if p.gates > 0 || p.passes != passes || n.kver != kver || n.stale != nil {
			n.invalidate() // what was stored may be of before a change
			return err
		}
		if err != nil || k < len(b) {
			return err
		}
	}
	p.size, p.sized = size, passes
	return nil
}

// noted is the kernel, with a note of what may cross a GETATTR.
type noted struct {
	notifier
	f *fsys
}

func (k noted) InodeNotify(ino uint64, off, length int64) fuse.Status {
	if n := k.f.known(twofold.Ino(ino)); n != nil {
		defer k.f.unref(n)
		n.note(1)
		defer n.note(-1)
	}
	return k.notifier.InodeNotify(ino, off, length)
}

func (n *node) note(d int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paging.noting += d
	n.paging.noted = time.Now()
}

// changing is shut for who does not hold n.mu, before exclusive: while that runs READs wait.
// reopen opens the gate when the kernel has the answer: until then it takes no size but
// that one (FUSE_I_SIZE_UNSTABLE).
func (n *node) changing(ctx context.Context) (reopen func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.shut(ctx); err != nil {
		return nil, err
	}
	open := func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.reopen()
	}
	if n.paging.files == 0 {
		return open, nil
	}
	return func() {
		n.fs.again(n)
		time.AfterFunc(deliveryTime, func() {
			defer n.fs.unref(n)
			open()
		})
	}, nil
}

// pagedAttrs are attributes for the kernel of an inode that it reads through pages. They
// may be those that a read(2) begins with: so they are not given while the gate is shut,
// nor when it was meanwhile, and, if it can be, under a lease, so that nobody changes the
// file before shut. m is the moment they were asked for behind. n.mu is not held.
func (n *node) pagedAttrs(ctx context.Context) (a api.Attr, m uint64, err error) {
	f, p := n.fs, &n.paging
	n.mu.Lock()
	defer n.mu.Unlock()
	from := time.Now()
	for patience := from.Add(pagePatience); ; {
		for p.gates > 0 {
			if err := n.wait(ctx); err != nil {
				return a, m, err
			}
		}
		passes := p.passes
		p.asking++
		n.mu.Unlock()
		m = f.cache.now()
		a, err = f.attrs(ctx, n.ino, true)
		leased := err == nil && f.cache.holds(a, m)
		n.mu.Lock()
		p.asking--
		n.broadcast()
		if err != nil {
			return a, m, err
		}
		if p.gates > 0 || p.passes != passes {
			continue
		}
		now := time.Now()
		switch {
		case leased || n.decides():
			if (p.noting > 0 || p.noted.After(from.Add(-queueTime))) && (p.size != a.Size || p.sized != passes) {
				if err := n.grow(ctx, a.Size); err != nil {
					return a, m, err
				}
				continue
			}
		case a.Nlink == 0 || now.Before(p.bereft) || f.cache.alive(now) <= 0:
		case now.After(patience):
			p.bereft = now.Add(pagePatience)
			f.log.Debug("no lease for a file that is read through pages", "ino", n.ino)
		default:
			if _, err := n.pause(ctx, now.Add(firstPause)); err != nil {
				return a, m, err
			}
			continue
		}
		p.told = now
		if p.begun.Before(now) {
			p.begun = now
		}
		return a, m, nil
	}
}

// holds reports whether attributes that were asked for behind the moment m are kept under a
// lease.
func (c *cache) holds(a api.Attr, m uint64) bool {
	if c.alive(time.Now()) <= 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.same(a, m)
}

// same is holds whether or not the lease is alive; mu is held.
func (c *cache) same(a api.Attr, m uint64) bool {
	in := c.inodes[a.Ino]
	return in != nil && in.valid && c.marks.untouched(m, key{ino: a.Ino}) &&
		in.attr.Version == a.Version && in.attr.Ctime == a.Ctime && in.attr.Size == a.Size
}

// shutAll shuts the gates of inodes that others are about to change.
func (f *fsys) shutAll(stale []api.Stale) (reopen func()) {
	var shut []*node
	var wg sync.WaitGroup
	for _, s := range stale {
		if len(s.Names) > 0 {
			continue // a directory
		}
		n := f.known(s.Ino)
		if n == nil {
			continue
		}
		shut = append(shut, n)
		n.mu.Lock()
		if n.paging.files == 0 {
			n.paging.gates++
		} else {
			wg.Go(func() {
				n.mu.Lock()
				defer n.mu.Unlock()
				if n.shut(f.ctx) != nil {
					n.paging.gates++ // the mount is at its end
				}
			})
		}
		n.mu.Unlock()
	}
	wg.Wait()
	return func() {
		for _, n := range shut {
			n.mu.Lock()
			n.reopen()
			n.mu.Unlock()
			f.unref(n)
		}
	}
}

// pagedInodes are those that are read through pages.
func (f *fsys) pagedInodes() (inos []api.Stale) {
	for _, n := range f.all() {
		n.mu.Lock()
		if n.paging.files > 0 {
			inos = append(inos, api.Stale{Ino: n.ino})
		}
		n.mu.Unlock()
		f.unref(n)
	}
	return inos
}

// pageRead notes the begin of a READ of pages through h; end is to be called at its end.
func (h *file) pageRead() (end func()) {
	n := h.n
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paging.reads++
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.paging.reads--
		if now := time.Now(); n.paging.begun.Before(now) {
			n.paging.begun = now // the read(2) that it is for goes on
		}
		if n.paging.gates > 0 {
			n.broadcast()
		}
	}
}

// kernelAttrs are attributes for an answer to the kernel that were asked for behind the
// moment m.
func (f *fsys) kernelAttrs(ctx context.Context, ino twofold.Ino) (a api.Attr, m uint64, err error) {
	if n := f.known(ino); n != nil {
		defer f.unref(n)
		n.mu.Lock()
		paged := n.paging.files > 0
		n.mu.Unlock()
		if paged {
			return n.pagedAttrs(ctx)
		}
	}
	m = f.cache.now()
	a, err = f.attrs(ctx, ino, true)
	return a, m, err
}

// given notes that the kernel was given attributes for a time. node.mu is held.
func (p *paging) given(d time.Duration) {
	p.told = time.Now()
	if end := p.told.Add(d + kernelSlack); p.begun.Before(end) {
		p.begun = end
	}
}
