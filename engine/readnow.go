package engine

import "twofold/internal/errs"

// readNow fills p with content from off, block after block, as far as that is in memory
// (the page cache, as a rule), and returns how much it was. It starts no goroutine and
// waits for no drive; what a wait is needed for, or that does not pass its hash, is left
// to the ordinary way. errs.Invalid: the reader is closed.
func (b *BlobReader) readNow(p []byte, off int64) (int, error) {
	if !b.acquire() {
		return 0, errs.Newf("engine.read", errs.Invalid, "the reader is closed")
	}
	defer b.release()
	size := int64(b.stripeLen.Load())
	done := 0
	for done < len(p) {
		i := (off + int64(done)) / size
		at := int(off + int64(done) - i*size)
		content := b.stripeContent(i)
		blockLen := b.coder.BlockLen(content)
		shard := at / blockLen
		from := at - shard*blockLen
		n := min(len(p)-done, blockLen-from, content-at)
		if b.last.Has(shard) || b.never.Has(shard) || !b.sources[shard].readNow(i, from, p[done:done+n]) {
			break
		}
		done += n
	}
	return done, nil
}

// readNow is drive.ShardReader.ReadNow of the shard, if it is open.
func (s *source) readNow(i int64, from int, p []byte) bool {
	select {
	case s.lock <- struct{}{}:
	default:
		return false // it is being opened
	}
	r := s.r
	ok := r != nil && !s.corrupt && s.drv == s.pos.slot.Drive()
	s.unlock()
	return ok && r.ReadNow(i, from, p)
}
