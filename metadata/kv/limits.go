package kv

import "twofold/internal/errs"

// What one Write may hold. A batch is one transition of the state machine (or a
// few, taken together), so its size is bounded by the bounds of commands.
const (
	MaxKeyLen     = 60 << 10  // bytes of a key
	MaxValueLen   = 900 << 10 // bytes of a value: below what Badger would move to its value log
	MaxBatchOps   = 500_000
	MaxBatchBytes = 64 << 20 // keys and values together
)

// checkBatch refuses batches over the limits, before anything is written.
func checkBatch(ops []Op) error {
	if len(ops) > MaxBatchOps {
		return errs.Newf("kv.Write", errs.TooLarge, "%d changes in one batch, at most %d", len(ops), MaxBatchOps)
	}
	total := 0
	for i := range ops {
		switch k, v := len(ops[i].Key), len(ops[i].Value); {
		case k == 0:
			return errs.Newf("kv.Write", errs.Invalid, "an empty key")
		case k > MaxKeyLen:
			return errs.Newf("kv.Write", errs.TooLarge, "a key of %d bytes, at most %d", k, MaxKeyLen)
		case v > MaxValueLen:
			return errs.Newf("kv.Write", errs.TooLarge, "a value of %d bytes, at most %d", v, MaxValueLen)
		default:
			total += k + v
		}
	}
	if total > MaxBatchBytes {
		return errs.Newf("kv.Write", errs.TooLarge, "%d bytes in one batch, at most %d", total, MaxBatchBytes)
	}
	return nil
}
