package placement

import (
	"fmt"
	"strconv"
	"strings"
)

// Coding is how a blob is cut: Data shards hold it, Parity more are redundant.
type Coding struct {
	Data, Parity int
}

// ReadQuorum is how many shards a read needs.
func (c Coding) ReadQuorum() int { return c.Data }

// WriteQuorum is how many shards must be durable before a write counts: with as
// much parity as data one more, so that two writes can't both believe to have won.
func (c Coding) WriteQuorum() int {
	if c.Data == c.Parity {
		return c.Data + 1
	}
	return c.Data
}

// CodingFor is the coding of a blob written to a set while offline of its drives
// are: parity grows by them up to half the set, so that new data is no weaker.
func CodingFor(setSize, parity, offline int) Coding {
	p := min(parity+max(offline, 0), setSize/2)
	return Coding{Data: setSize - p, Parity: p}
}

// DefaultParity is the parity of a set where nothing else was asked for.
func DefaultParity(setSize int) int {
	switch {
	case setSize <= 1:
		return 0
	case setSize <= 3:
		return 1
	case setSize <= 5:
		return 2
	case setSize <= 7:
		return 3
	}
	return 4
}

// Classes are the storage classes asked for: "EC:n", or empty for the default.
type Classes struct {
	Standard string
	RRS      string
}

// ParseClass reads "EC:n" and returns n.
func ParseClass(s string) (int, error) {
	digits, ok := strings.CutPrefix(s, "EC:")
	n, err := strconv.ParseUint(digits, 10, 8)
	if !ok || err != nil || strings.HasPrefix(digits, "+") {
		return 0, invalid("%q is no storage class; write EC: and the number of parity shards, as in EC:2", s)
	}
	return int(n), nil
}

// apply sets the layout's parities and checks them against every pool.
func (c Classes) apply(l *Layout) error {
	l.Standard = DefaultParity(l.Pools[0].SetSize)
	if c.Standard != "" {
		n, err := ParseClass(c.Standard)
		if err != nil {
			return invalid("S3_STORAGE_CLASS_STANDARD: %v", err)
		}
		l.Standard = n
	}
	for i, p := range l.Pools {
		half := p.SetSize / 2
		if l.Standard <= half {
			continue
		}
		if c.Standard != "" {
			return invalid("S3_STORAGE_CLASS_STANDARD=%s is too much for %s: with sets of %s parity is EC:0 to EC:%d",
				c.Standard, p.words(i), plural(p.SetSize, "drive"), half)
		}
		return invalid("%s can't keep the parity of %s, EC:%d: its sets have %s, which bear EC:%d; add at least %d drives at once, or set S3_STORAGE_CLASS_STANDARD=EC:%d for all pools",
			p.words(i), l.Pools[0].words(0), l.Standard, plural(p.SetSize, "drive"), half, 2*l.Standard, half)
	}
	if c.Standard == "" {
		l.warnOfWeakPools()
	}
	l.RRS = min(1, l.Standard)
	if c.RRS == "" {
		return nil
	}
	n, err := ParseClass(c.RRS)
	if err != nil {
		return invalid("S3_STORAGE_CLASS_RRS: %v", err)
	}
	if n > l.Standard {
		return invalid("S3_STORAGE_CLASS_RRS=%s is more parity than STANDARD objects have (EC:%d); reduced redundancy is at most that", c.RRS, l.Standard)
	}
	l.RRS = n
	return nil
}

// warnOfWeakPools names pools that would have more parity on their own.
func (l *Layout) warnOfWeakPools() {
	for i, p := range l.Pools {
		if own := DefaultParity(p.SetSize); own > l.Standard {
			l.Warnings = append(l.Warnings, fmt.Sprintf("%s gets EC:%d, as the first pool has: all pools keep objects equally well; on its own it would have EC:%d",
				p.words(i), l.Standard, own))
		}
	}
}
