package engine

import (
	"sync/atomic"

	"twofold/engine/erasure"
)

// aheadStripes is how many stripes, of all writes together, may be with the drives
// while their writes fill others: a full window for two streams. More streams keep the
// drives busy with less of each. With four times as many, eight streams were as fast.
const aheadStripes = 2 * writeWindow

// ahead bounds the memory of all writes' stripes: to one for each write, whatever it
// does with it, and aheadStripes.
//
// No write ever waits for another's stripe. One that is not admitted goes on as well,
// but reads on only when the drives have what it read before. And what counts is with
// drives, not with a client: one that sends slowly takes nothing from the others. A
// drive that hangs does, until the calls to it have ended. The zero value is ready.
// Safe for concurrent use.
type ahead struct{ stripes atomic.Int32 }

// admit reports whether st, which is not yet shared, is one of them. It counts until
// its last reference is released.
func (a *ahead) admit(st *erasure.Stripe) bool {
	if a.stripes.Add(1) > aheadStripes {
		a.stripes.Add(-1)
		return false
	}
	st.OnFree(func() { a.stripes.Add(-1) })
	return true
}
