package drives

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"twofold"
	"twofold/engine"
	"twofold/engine/drive"
)

// overNodes is an engine over n drives, each of another node, as they are seen from here.
func overNodes(t testing.TB, n, parity int, delay time.Duration, o engine.Options) (*engine.Engine, []*node, []*drive.Local) {
	t.Helper()
	o.Cluster = twofold.NewUUID()
	set := engine.SetConfig{Parity: parity}
	var nodes []*node
	var locals []*drive.Local
	for i := range n {
		d := local(t, o.Cluster)
		nd := newNode(t, delay, ServerOptions{}, Options{}, d)
		r := nd.Node.Drive(d.ID(), fmt.Sprintf("http://node%d:9000/data", i+1))
		nd.refresh()
		nodes, locals = append(nodes, nd), append(locals, d)
		set.Slots = append(set.Slots, drive.NewSlot(set.ID, i, r))
	}
	o.Sets = []engine.SetConfig{set}
	e, err := engine.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, nodes, locals
}

// overLocals is an engine over n drives of this process.
func overLocals(t testing.TB, n, parity int) *engine.Engine {
	t.Helper()
	o := engine.Options{Cluster: twofold.NewUUID()}
	set := engine.SetConfig{Parity: parity}
	for i := range n {
		set.Slots = append(set.Slots, drive.NewSlot(set.ID, i, local(t, o.Cluster)))
	}
	o.Sets = []engine.SetConfig{set}
	e, err := engine.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func content(n int, seed uint64) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(p)
	return p
}

func write(t testing.TB, e *engine.Engine, id uint64, p []byte) (twofold.Blob, error) {
	t.Helper()
	o := engine.WriteOptions{ID: twofold.MakeBlobID(1, id), Parity: -1, SizeHint: int64(len(p))}
	return e.Write(t.Context(), o, bytes.NewReader(p))
}

func read(t testing.TB, e *engine.Engine, b twofold.Blob) ([]byte, error) {
	t.Helper()
	r, err := e.Open(t.Context(), b)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var out bytes.Buffer
	_, err = r.WriteRange(t.Context(), &out, 0, b.Size)
	return out.Bytes(), err
}
