package fsm

import "twofold/metadata/kv"

// countingStore counts what is read of a store.
type countingStore struct {
	kv.Store
	reads int
}

func (s *countingStore) View(fn func(kv.Reader) error) error {
	return s.Store.View(func(r kv.Reader) error { return fn(countingReader{r, &s.reads}) })
}

type countingReader struct {
	kv.Reader
	reads *int
}

func (r countingReader) Get(key []byte) ([]byte, error) {
	*r.reads++
	return r.Reader.Get(key)
}

func (r countingReader) Scan(start, end []byte, fn func(k, v []byte) (bool, error)) error {
	return r.Reader.Scan(start, end, func(k, v []byte) (bool, error) {
		*r.reads++
		return fn(k, v)
	})
}

func (r countingReader) Iter(start, end []byte) kv.Iterator {
	return countingIter{r.Reader.Iter(start, end), r.reads}
}

type countingIter struct {
	kv.Iterator
	reads *int
}

func (i countingIter) Seek(key []byte) bool {
	*i.reads++
	return i.Iterator.Seek(key)
}

func (i countingIter) Next() bool {
	*i.reads++
	return i.Iterator.Next()
}
