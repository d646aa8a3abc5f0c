package disk

import (
	"math/rand/v2"
	"os"
	"sort"
)

// policy is how a power cut deals with what is not durable. It is drawn from the
// seed, so that different seeds try different kinds of loss.
type policy struct {
	rng      *rand.Rand
	keepData float64 // probability that a page is in its last state, and that a change of size is kept
	keepName float64 // probability that a directory operation is kept
	ordered  bool    // directory operations are kept up to a point in time
	torn     int     // the how-manieth dirty page is torn; -1 for none
	journal  uint64  // truncations up to this place in the journal are kept
}

func newPolicy(seed uint64, opts Options) *policy {
	rng := rand.New(rand.NewPCG(seed, uint64(opts.Index)))
	p := []float64{0, 0.1, 0.5, 0.9, 1}
	return &policy{
		rng:      rng,
		keepData: p[rng.IntN(len(p))],
		keepName: p[rng.IntN(len(p))],
		ordered:  rng.IntN(4) == 0 || opts.Ordered,
		torn:     -1,
	}
}

// PowerCut makes the state of after: what is durable, and a subset of the rest
// chosen by the seed. It returns the tree's path. The disk can't be used after it.
//
// Each page of a file is found in one of the contents it had since the last fsync,
// and with one seed in two a single page is torn between two of them. The size is
// one that the file had; when it was growing, also a page boundary on the way.
// Truncations are in the order they were made in: a page is never found with what
// a surviving truncation cut off, nor with what was written after a lost one. Where
// directory operations are ordered, a truncation before one that survives survives.
func (d *Disk) PowerCut(seed uint64) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := newPolicy(seed, d.opts)
	d.surviveNames(p)
	var files []*Inode
	dirty := 0
	for _, i := range d.inodes {
		if i.IsFile() && i.durableLinks > 0 {
			files = append(files, i)
			dirty += len(i.data.pages)
		}
	}
	sort.Slice(files, func(a, b int) bool { return files[a].No < files[b].No })
	if p.rng.IntN(2) == 0 && dirty > 0 {
		p.torn = p.rng.IntN(dirty)
	}
	for _, i := range files {
		i.mu.Lock()
		err := i.survive(p)
		i.mu.Unlock()
		if err != nil {
			return "", err
		}
	}
	return d.rest()
}

// surviveNames applies the operations that survive to the durable names.
func (d *Disk) surviveNames(p *policy) {
	pending := d.log.live()
	until := len(pending)
	if p.ordered {
		// The ends as often as anything between.
		until = min(max(p.rng.IntN(2*len(pending)+1)-len(pending)/2, 0), len(pending))
	}
	p.journal = d.log.durable
	lost := make(map[*dirOp]bool)
	for n, o := range pending {
		keep := n < until
		if !p.ordered {
			keep = p.rng.Float64() < p.keepName
			for _, dep := range o.deps {
				keep = keep && !lost[dep]
			}
		}
		if !keep {
			lost[o] = true
			continue
		}
		for _, c := range o.changes {
			c.setDurable()
		}
		if p.ordered {
			p.journal = o.seq
		}
	}
}

// survive turns the live file into what is left of it. The caller holds mu.
func (i *Inode) survive(p *policy) error {
	c := &i.data
	if len(c.pages) == 0 && len(c.sizes) == 0 {
		return nil
	}
	size, kept := c.surviveSize(p)
	nos := make([]int64, 0, len(c.pages))
	for pg := range c.pages {
		nos = append(nos, pg)
	}
	sort.Slice(nos, func(a, b int) bool { return nos[a] < nos[b] })
	return i.withFile(func(f *os.File) error {
		for _, pg := range nos {
			data, err := i.survivePage(p, f, pg, kept)
			p.torn--
			if err != nil {
				return err
			}
			if pg*PageSize >= size {
				continue
			}
			if _, err := f.WriteAt(data, pg*PageSize); err != nil {
				return err
			}
		}
		return f.Truncate(size)
	})
}

// surviveSize draws how many of the changes of size are kept, and the size.
func (c *content) surviveSize(p *policy) (size int64, kept int) {
	size = c.durable
	must := 0
	for n, s := range c.sizes {
		if s.journal != 0 && s.journal <= p.journal {
			must = n + 1
		}
	}
	for kept < len(c.sizes) {
		if kept < must || p.rng.Float64() < p.keepData {
			size = c.sizes[kept].to
			kept++
			continue
		}
		// The drive may have been busy with what is lost.
		if next := c.sizes[kept].to; next > size && p.rng.IntN(2) == 0 {
			size = min(next, size/PageSize*PageSize+p.rng.Int64N((next-size)/PageSize+1)*PageSize+PageSize)
		}
		break
	}
	return size, kept
}

// survivePage draws one of the page's contents, given how many changes of size
// are kept.
func (i *Inode) survivePage(p *policy, f *os.File, pg int64, kept int) ([]byte, error) {
	c := &i.data
	h := c.pages[pg]
	live, err := readPage(f, pg, c.size)
	if err != nil {
		return nil, err
	}
	all := append(append([]version(nil), h.olds...), version{h.current, live})
	possible := all
	for n, v := range all {
		if n > 0 && v.seq >= c.firstLostCut(pg, kept) {
			possible = all[:n]
			break
		}
	}
	last := len(possible) - 1
	pick := last
	if p.rng.Float64() >= p.keepData && last > 0 {
		pick = p.rng.IntN(last)
	}
	data := c.cutOff(possible[pick], pg, kept)
	if p.torn == 0 && last > 0 {
		other := c.cutOff(possible[(pick+1+p.rng.IntN(last))%len(possible)], pg, kept)
		at := (1 + p.rng.IntN(PageSize/SectorSize-1)) * SectorSize
		copy(data[at:], other[at:])
	}
	return data, nil
}

// firstLostCut is the number of the first truncation that cut off some of the
// page and is not kept.
func (c *content) firstLostCut(pg int64, kept int) uint64 {
	for _, s := range c.sizes[kept:] {
		if s.to < s.from && s.to < (pg+1)*PageSize {
			return s.seq
		}
	}
	return ^uint64(0)
}

// cutOff returns a version after the truncations that are kept and came later.
func (c *content) cutOff(v version, pg int64, kept int) []byte {
	data := make([]byte, PageSize)
	copy(data, v.data)
	for _, s := range c.sizes[:kept] {
		if s.to < s.from && s.seq > v.seq {
			clear(data[min(max(s.to-pg*PageSize, 0), PageSize):])
		}
	}
	return data
}
