package replica

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"sync/atomic"

	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// fakeMachine is a small state machine: SetConfig sets a value, or, under a name
// that begins with "+", adds one to a counter and returns what it was in ID. It
// knows commands that come again by (Session, Seq). Its keys of values begin with x,
// so that large ones are bulky.
type fakeMachine struct {
	store   kv.Store
	applied atomic.Uint64
}

func newFake(store kv.Store) (StateMachine, error) {
	m := &fakeMachine{store: store}
	return m, store.View(func(r kv.Reader) error {
		v, err := r.Get([]byte("applied"))
		if len(v) == 8 {
			m.applied.Store(binary.BigEndian.Uint64(v))
		}
		return err
	})
}

func (m *fakeMachine) Applied() uint64 { return m.applied.Load() }

func (m *fakeMachine) ApplyBatch(entries []Entry) ([]metadata.Result, error) {
	results := make([]metadata.Result, len(entries))
	over := map[string][]byte{}
	last := m.Applied()
	err := m.store.View(func(r kv.Reader) error {
		get := func(k string) []byte {
			if v, ok := over[k]; ok {
				return v
			}
			v, err := r.Get([]byte(k))
			if err != nil {
				panic(err)
			}
			return append([]byte(nil), v...)
		}
		for i, e := range entries {
			if e.Index <= last {
				continue
			}
			last = e.Index
			c, err := metadata.Decode(e.Data)
			if err != nil {
				return err
			}
			key := fmt.Sprintf("r%d/%d", c.Session, c.Seq)
			if v := get(key); c.Session != 0 && len(v) > 0 {
				results[i].ID, _ = strconv.ParseUint(string(v), 10, 64)
				continue
			}
			b := c.Body.(*metadata.SetConfig)
			switch {
			case b.Name == "fail":
				results[i] = metadata.Result{Failed: true, Kind: errs.Precondition, Msg: "asked to fail"}
			case b.Name[0] == '+':
				n, _ := strconv.ParseUint(string(get("x"+b.Name)), 10, 64)
				results[i].ID = n
				over["x"+b.Name] = strconv.AppendUint(nil, n+1, 10)
			default:
				over["x"+b.Name] = b.Value
			}
			if c.Session != 0 {
				over[key] = strconv.AppendUint(nil, results[i].ID, 10)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	ops := []kv.Op{{Key: []byte("applied"), Value: binary.BigEndian.AppendUint64(nil, last)}}
	for k, v := range over {
		ops = append(ops, kv.Op{Key: []byte(k), Value: v})
	}
	if err := m.store.Write(ops); err != nil {
		return nil, err
	}
	m.applied.Store(last)
	return results, nil
}

func (m *fakeMachine) View(fn func(metadata.View) error) error {
	return m.store.View(func(r kv.Reader) error { return fn(fakeView{r: r}) })
}

type fakeView struct {
	metadata.View
	r kv.Reader
}

func (v fakeView) Config(name string) ([]byte, error) {
	b, err := v.r.Get([]byte("x" + name))
	return append([]byte(nil), b...), err
}
