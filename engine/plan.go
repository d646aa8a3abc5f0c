package engine

import (
	"twofold/engine/drive"
	"twofold/engine/placement"
	"twofold/internal/errs"
)

// plan is how a blob is coded, decided when its write starts.
type plan struct {
	placement.Coding
	use []bool // by position: whether its drive is written to
}

// plan applies the rule for parity to the drives as they are: a drive that is not
// written to adds one to the parity asked for (-1: the set's), up to half the set.
// Drives with calls that hang are left out where the others are a quorum.
func (s *set) plan(parity int) (plan, error) {
	if parity < 0 {
		parity = s.parity
	}
	n := len(s.at)
	states := make([]drive.State, n)
	usable, prompt := make([]bool, n), make([]bool, n)
	var nUsable, nPrompt int
	for i, p := range s.at {
		states[i] = p.slot.Drive().State()
		if usable[i] = writable(states[i]); usable[i] {
			nUsable++
			if prompt[i] = p.stuck.Load() == 0; prompt[i] {
				nPrompt++
			}
		}
	}
	if p, ok := planFor(n, parity, nPrompt); ok {
		p.use = prompt
		return p, nil
	}
	if p, ok := planFor(n, parity, nUsable); ok {
		p.use = usable
		return p, nil
	}
	full := 0
	for _, st := range states {
		if st == drive.Full {
			full++
		}
	}
	kind := errs.WriteQuorum
	if _, ok := planFor(n, parity, nUsable+full); ok {
		kind = errs.NoSpace
	}
	return plan{}, errs.Newf("engine.Write", kind, "%s: %d of the %d drives of set %s can be written, %d are full",
		kind, nUsable, n, s.id, full)
}

// planFor is the coding when count of n drives can be written, and whether they are
// a write quorum of it.
func planFor(n, parity, count int) (plan, bool) {
	c := placement.CodingFor(n, parity, n-count)
	return plan{Coding: c}, count >= c.WriteQuorum()
}

// quorumError is why a write has failed: for want of space, of write permission,
// or of drives, whichever would have made the quorum.
func (w *write) quorumError() error {
	live, kinds := 0, map[errs.Kind]int{}
	var cause error
	for _, sw := range w.shards {
		if sw.live {
			live++
			continue
		}
		kinds[errs.KindOf(sw.err)]++
		if cause == nil || errs.Is(cause, errs.Unavailable) {
			cause = sw.err
		}
	}
	kind := errs.WriteQuorum
	switch noSpace, readOnly := kinds[errs.NoSpace], kinds[errs.ReadOnly]; {
	case live+noSpace >= w.quorum && noSpace >= readOnly:
		kind = errs.NoSpace
	case live+readOnly >= w.quorum, readOnly > 0 && live+readOnly+noSpace >= w.quorum:
		kind = errs.ReadOnly
	}
	return &errs.Error{Op: "engine.Write", Kind: kind, Err: cause}
}
