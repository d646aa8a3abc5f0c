package fusefs

import (
	"context"
	"slices"
	"sort"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

func (s *fakeSession) Open(ctx context.Context, ino twofold.Ino) (api.Attr, error) {
	if err := s.before("Open", ino); err != nil {
		return api.Attr{}, err
	}
	s.recall(ctx, ino)
	defer s.v.mu.Unlock()
	in, err := s.v.get(ino)
	if err != nil {
		return api.Attr{}, err
	}
	in.pins[s]++
	return s.grant(in), nil
}

func (s *fakeSession) Release(ctx context.Context, ino twofold.Ino) error {
	if err := s.before("Release", ino); err != nil {
		return err
	}
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	in, err := s.v.get(ino)
	if err != nil {
		return err
	}
	if in.pins[s]--; in.pins[s] <= 0 {
		delete(in.pins, s)
		s.v.locks.Closed(s, ino)
	}
	s.v.free(in)
	return nil
}

func (s *fakeSession) Read(ctx context.Context, ino twofold.Ino, off int64, p []byte) (int, error) {
	if err := s.before("Read", ino); err != nil {
		return 0, err
	}
	err := s.recall(ctx, ino)
	defer s.v.mu.Unlock()
	s.alone(ctx, itself(ino)())
	if err != nil {
		return 0, err
	}
	in, err := s.v.get(ino)
	if err != nil {
		return 0, err
	}
	if off >= in.attr.Size {
		return 0, nil
	}
	p = p[:min(int64(len(p)), in.attr.Size-off)]
	clear(p)
	if !in.sink {
		copy(p, in.data[off:])
	}
	return len(p), nil
}

func (s *fakeSession) Write(ctx context.Context, ino twofold.Ino, w api.Write) (api.Attr, error) {
	if err := s.before("Write", ino); err != nil {
		return api.Attr{}, err
	}
	total := 0
	for i, seg := range w.Segments {
		total += len(seg.Data)
		if i > 0 && end(w.Segments[i-1]) > seg.Off || len(seg.Data) == 0 {
			panic("segments overlap, or are out of order, or empty")
		}
	}
	if total > api.MaxIO {
		panic("a write of more than MaxIO")
	}
	defer s.change(ctx, ino, itself(ino))()
	in, err := s.v.get(ino)
	if err != nil {
		return api.Attr{}, err
	}
	if w.Token == 0 && in.holder == s || w.Token != 0 && (in.holder != s || in.token != w.Token) {
		return api.Attr{}, fail(errs.Fenced)
	}
	if s.v.quota > 0 && w.Size > max(in.attr.Size, in.reserve) {
		return api.Attr{}, fail(errs.Quota)
	}
	if err := s.use(int64(total)); err != nil {
		return api.Attr{}, err
	}
	size := max(in.attr.Size, w.Size)
	for _, r := range w.Punch {
		if in.data != nil {
			clear(in.data[r.Off : r.Off+r.Len])
		}
	}
	for _, seg := range w.Segments {
		size = max(size, end(seg))
	}
	in.resize(size)
	for _, seg := range w.Segments {
		if !in.sink {
			copy(in.data[seg.Off:], seg.Data)
		}
	}
	in.attr.Version++
	in.attr.ETag = w.ETag
	if w.ETag == "" {
		in.attr.ETag = "opaque"
	}
	in.attr.Mtime = w.Mtime
	if w.Atime != 0 {
		in.attr.Atime = w.Atime
	}
	in.attr.Ctime = max(s.v.now(), w.Mtime)
	if w.KillPriv {
		in.attr.Mode = withoutSetID(in.attr.Mode)
	}
	s.v.writes++
	a := in.attr // leased, if it was before: whoever changes it keeps its own read lease
	a.Leased = in.readers[s]
	return a, nil
}

// Seek tells runs of zeros from other bytes: the fake has no extents.
func (s *fakeSession) Seek(ctx context.Context, ino twofold.Ino, off int64, hole bool) (int64, error) {
	if err := s.before("Seek", ino); err != nil {
		return 0, err
	}
	s.recall(ctx, ino)
	defer s.v.mu.Unlock()
	in, err := s.v.get(ino)
	if err != nil {
		return 0, err
	}
	if off >= in.attr.Size {
		return -1, nil
	}
	for ; off < in.attr.Size; off++ {
		if (in.data[off] == 0) == hole {
			return off, nil
		}
	}
	if hole {
		return in.attr.Size, nil
	}
	return -1, nil
}

func (s *fakeSession) CopyRange(ctx context.Context, c api.CopyRange) (api.Attr, int64, error) {
	if err := s.before("CopyRange", c.Dst); err != nil {
		return api.Attr{}, 0, err
	}
	s.recall(ctx, c.Src) // v.mu is let go of: good enough with one copy at a time
	s.v.mu.Unlock()
	defer s.change(ctx, c.Dst, itself(c.Dst))()
	src, err := s.v.get(c.Src)
	if err != nil {
		return api.Attr{}, 0, err
	}
	dst, err := s.v.get(c.Dst)
	if err != nil {
		return api.Attr{}, 0, err
	}
	for in, token := range map[*fakeInode]uint64{src: c.SrcToken, dst: c.DstToken} {
		if token != 0 && (in.holder != s || in.token != token) || token == 0 && in.holder == s {
			return api.Attr{}, 0, fail(errs.Fenced)
		}
	}
	n := min(c.Len, src.attr.Size-c.SrcOff)
	if n <= 0 {
		return dst.attr, 0, nil
	}
	data := slices.Clone(src.data[c.SrcOff : c.SrcOff+n])
	dst.resize(max(dst.attr.Size, c.DstOff+n))
	copy(dst.data[c.DstOff:], data)
	dst.attr.Version++
	dst.attr.ETag = "opaque"
	dst.attr.Mtime, dst.attr.Ctime = c.Mtime, max(s.v.now(), c.Mtime)
	if c.KillPriv {
		dst.attr.Mode = withoutSetID(dst.attr.Mode)
	}
	return dst.attr, n, nil
}

func (s *fakeSession) AcquireWrite(ctx context.Context, ino twofold.Ino) (api.Lease, error) {
	if err := s.before("AcquireWrite", ino); err != nil {
		return api.Lease{}, err
	}
	if err := s.recall(ctx, ino); err != nil {
		s.v.mu.Unlock()
		return api.Lease{}, err
	}
	s.v.mu.Unlock()
	end := s.change(ctx, ino, itself(ino)) // it will, without telling
	in, err := s.v.get(ino)
	if err == nil && in.holder != nil && in.holder != s {
		err = fail(errs.Unwritten) // the recall failed
	}
	if err != nil {
		end()
		return api.Lease{}, err
	}
	if in.holder != s {
		s.v.token++
		in.holder, in.token = s, s.v.token
	}
	l := api.Lease{Token: in.token, Attr: in.attr, Allowed: in.reserve}
	if s.v.quota == 0 {
		l.Allowed = twofold.MaxFileLen
	}
	end()
	return l, s.before("granted", ino) // a hook can hold the answer up
}

func (s *fakeSession) ReleaseWrite(ctx context.Context, ino twofold.Ino, token uint64) error {
	if err := s.before("ReleaseWrite", ino); err != nil {
		return err
	}
	s.v.mu.Lock()
	if in := s.v.inodes[ino]; in != nil && in.holder == s && in.token == token {
		in.holder, in.reserve = nil, 0
	}
	s.v.mu.Unlock()
	return s.before("released", ino) // a hook can hold the answer up
}

func (s *fakeSession) GetXattr(ctx context.Context, ino twofold.Ino, name string) ([]byte, error) {
	if err := s.before("GetXattr", ino); err != nil {
		return nil, err
	}
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	in, err := s.v.get(ino)
	if err != nil {
		return nil, err
	}
	x, ok := in.xattrs[name]
	if !ok {
		return nil, fail(errs.NoAttr)
	}
	return slices.Clone(x), nil
}

func (s *fakeSession) SetXattr(ctx context.Context, ino twofold.Ino, name string, value []byte, flags uint32) error {
	if err := s.before("SetXattr", ino); err != nil {
		return err
	}
	defer s.change(ctx, 0, itself(ino))()
	in, err := s.v.get(ino)
	if err != nil {
		return err
	}
	if s.flags != nil {
		s.flags(flags)
	}
	_, ok := in.xattrs[name]
	if flags == 1 && ok {
		return fail(errs.Exists)
	}
	if flags == 2 && !ok {
		return fail(errs.NoAttr)
	}
	in.xattrs[name] = slices.Clone(value)
	in.attr.Ctime = s.v.now()
	return nil
}

func (s *fakeSession) ListXattr(ctx context.Context, ino twofold.Ino) ([]string, error) {
	if err := s.before("ListXattr", ino); err != nil {
		return nil, err
	}
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	in, err := s.v.get(ino)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range in.xattrs {
		names = append(names, name)
	}
	sort.Strings(names)
	return names, nil
}

func (s *fakeSession) RemoveXattr(ctx context.Context, ino twofold.Ino, name string) error {
	if err := s.before("RemoveXattr", ino); err != nil {
		return err
	}
	defer s.change(ctx, 0, itself(ino))()
	in, err := s.v.get(ino)
	if err != nil {
		return err
	}
	if _, ok := in.xattrs[name]; !ok {
		return fail(errs.NoAttr)
	}
	delete(in.xattrs, name)
	return nil
}

// Promise grants as the volume does, out of v.room.
func (s *fakeSession) Reserve(_ context.Context, ino twofold.Ino, token uint64, size, slack int64) (int64, error) {
	if err := s.before("Reserve", ino); err != nil {
		return 0, err
	}
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	in, err := s.v.get(ino)
	switch {
	case err != nil:
		return 0, err
	case in.holder != s || in.token != token:
		return 0, fail(errs.Fenced)
	case s.v.quota == 0:
		return twofold.MaxFileLen, nil
	}
	used := int64(0)
	for _, other := range s.v.inodes {
		if other != in && other.entries == nil {
			used += max(other.attr.Size, other.reserve)
		}
	}
	if used+size > s.v.quota {
		return 0, fail(errs.Quota)
	}
	in.reserve = max(in.reserve, size+min(slack, (s.v.quota-used-size)/4))
	return in.reserve, nil
}

func (s *fakeSession) Promise(ctx context.Context, n int64) (int64, error) {
	if err := s.before("Promise", 0); err != nil {
		return 0, err
	}
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if n == 0 {
		s.v.room += s.promised
		s.promised = 0
		return 0, nil
	}
	n = min(n, max(s.v.room/4, 1<<20), s.v.room)
	if n <= 0 {
		return 0, fail(errs.NoSpace)
	}
	s.v.room -= n
	s.promised += n
	return n, nil
}

// use takes what a flush needs, first of what was promised; v.mu is held.
func (s *fakeSession) use(n int64) error {
	from := min(n, s.promised)
	if n-from > s.v.room {
		return fail(errs.NoSpace)
	}
	s.promised -= from
	s.v.room -= n - from
	return nil
}

func (s *fakeSession) StatFS(ctx context.Context, ino twofold.Ino) (api.StatFS, error) {
	if err := s.before("StatFS", ino); err != nil {
		return api.StatFS{}, err
	}
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	return api.StatFS{Total: 1 << 40, Free: 1 << 39, Files: uint64(len(s.v.inodes))}, nil
}
