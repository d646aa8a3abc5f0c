package history

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
)

// History is what is kept of a round.
type History struct {
	Seed   uint64  `json:"seed"`
	Round  int     `json:"round"`
	Cell   int     `json:"cell"` // bytes
	Root   uint64  `json:"root"` // st_ino of the bucket's directory
	Losses bool    `json:"losses"`
	Events []Event `json:"events"`
	Notes  string  `json:"notes,omitempty"` // faults
}

// model is what porcupine checks. beyond is set where it could not follow an order.
func (h *History) model(beyond *atomic.Bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return newTree(h.Root, h.Losses) },
		Step: func(state, in, out any) (ok bool, next any) {
			defer func() {
				if r := recover(); r == errTooMany {
					beyond.Store(true)
					ok, next = false, state
				} else if r != nil {
					panic(r)
				}
			}()
			return state.(*tree).step(in.(*Op), out.(*Out))
		},
		Equal:             equalTrees,
		Hash:              hashTree,
		DescribeOperation: func(in, out any) string { return in.(*Op).String() + " -> " + out.(*Out).describe(in.(*Op).Kind) },
		DescribeState:     func(s any) string { return s.(*tree).String() },
	}
}

// unknown counts the changes without an answer, by what was said instead.
func (h *History) unknown() map[string]int {
	all := map[string]int{}
	for _, e := range h.Events {
		if e.Out.Unknown {
			all[fmt.Sprintf("%s: %s", e.Op.Kind, e.Out.Err)]++
		}
	}
	return all
}

// operations are the events for porcupine.
func (h *History) operations() (ops []porcupine.Operation) {
	for _, e := range h.Events {
		ops = append(ops, porcupine.Operation{ClientId: e.Client, Input: e.Op, Output: e.Out, Call: e.Call, Return: e.Return})
	}
	return ops
}

// check looks for an order. Timed out, the result is porcupine.Unknown; so it is where an
// order could not be followed to its end, because of what there is to keep of it.
func (h *History) check(limit time.Duration) porcupine.CheckResult {
	var beyond atomic.Bool
	result := porcupine.CheckOperationsTimeout(h.model(&beyond), h.operations(), limit)
	if result == porcupine.Illegal && beyond.Load() {
		result = porcupine.Unknown
	}
	return result
}

// before is the history up to a moment: what had not returned by then has an unknown
// outcome. Linearizability is closed under this (Herlihy and Wing, theorem on prefixes):
// a prefix that has no order shows that the whole has none.
func (h *History) before(t int64) *History {
	p := *h
	p.Events = nil
	for _, e := range h.Events {
		switch {
		case e.Return <= t:
			p.Events = append(p.Events, e)
		case e.Call <= t && e.Op.changes():
			e.Return, e.Out = never, &Out{Unknown: true, Err: "cut"}
			p.Events = append(p.Events, e)
		}
	}
	return &p
}

// changes reports whether an operation of unknown outcome may have done something.
func (o *Op) changes() bool {
	switch o.Kind {
	case Get, Head, List, Lookup, GetAttr, Read, ReadDir, GetXattr, Load:
		return false
	}
	return true
}

// shortest is the shortest prefix that is found to have no order, nil if none is.
func (h *History) shortest(limit time.Duration) *History {
	var ends []int64
	for _, e := range h.Events {
		if e.Return < never {
			ends = append(ends, e.Return)
		}
	}
	slices.Sort(ends)
	// Whether a prefix is wrong is monotonic in its length, but for the time it takes.
	var best *History
	lo, hi := 0, len(ends)
	for lo < hi {
		mid := (lo + hi) / 2
		p := h.before(ends[mid])
		if p.check(limit) == porcupine.Illegal {
			best, hi = p, mid
		} else {
			lo = mid + 1
		}
	}
	return best
}

// save keeps a history in a directory: all of it and its shortest wrong part as JSON,
// and that part as porcupine draws it. It returns the files' names.
func (h *History) save(dir string, limit time.Duration) (files []string, short *History, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	base := filepath.Join(dir, fmt.Sprintf("seed-%d-round-%d", h.Seed, h.Round))
	keep := func(name string, h *History) error {
		b, err := json.MarshalIndent(h, "", " ")
		if err == nil {
			err = os.WriteFile(name, b, 0o644)
			files = append(files, name)
		}
		return err
	}
	if err := keep(base+".json", h); err != nil {
		return files, nil, err
	}
	short = h.shortest(limit)
	drawn := h
	if short != nil {
		drawn = short
		if err := keep(base+"-short.json", short); err != nil {
			return files, short, err
		}
	}
	model := drawn.model(new(atomic.Bool))
	_, info := porcupine.CheckOperationsVerbose(model, drawn.operations(), limit)
	err = porcupine.VisualizePath(model, info, base+".html")
	return append(files, base+".html"), short, err
}

// readHistory reads a history that save has kept.
func readHistory(name string) (*History, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	h := &History{}
	return h, json.Unmarshal(b, h)
}

// tail is the last operations of a history, one a line: with the shortest wrong part,
// the last one to return is the one that fits nowhere.
func (h *History) tail(n int) (lines []string) {
	events := slices.Clone(h.Events)
	slices.SortFunc(events, func(a, b Event) int { return int(min(a.Return, never/2) - min(b.Return, never/2)) })
	var done []Event
	for _, e := range events {
		if e.Return < never {
			done = append(done, e)
		}
	}
	for _, e := range done[max(0, len(done)-n):] {
		lines = append(lines, fmt.Sprintf("%9.3f-%9.3f ms client %d: %v -> %s",
			float64(e.Call)/1e6, float64(e.Return)/1e6, e.Client, e.Op, e.Out.describe(e.Op.Kind)))
	}
	return lines
}
