// Package bench runs one workload against one or more targets (S3 endpoints, or
// directories) and measures rates and latencies. With several targets the runs are
// interleaved, so that all meet the same machine: on a noisy one only the ratio of
// such a pair says anything.
package bench

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Step is one kind of operation, done Count times by Clients at once.
type Step struct {
	Name    string
	Clients int
	Count   int   // operations in all
	Bytes   int64 // payload of one operation, for the throughput; 0: none
	// Do does operation i.
	Do func(ctx context.Context, i int) error
}

// Workload is steps to be done in order on a target that Prepare has made ready.
type Workload interface {
	// Steps returns the steps of round r. Names are the same in every round.
	Steps(r int) []Step
	// Clean removes what round r made.
	Clean(ctx context.Context, r int) error
}

// Target is a workload with a name for the report.
type Target struct {
	Name string
	Workload
}

// Result is what a step measured on one target, over all rounds.
type Result struct {
	Step     string
	Clients  int
	Ops      int
	Bytes    int64
	Elapsed  time.Duration
	Rates    []float64 // operations a second, of each round
	lat      []time.Duration
	Failures int
}

// Rate is operations a second over all rounds.
func (r *Result) Rate() float64 { return float64(r.Ops) / r.Elapsed.Seconds() }

// MiBps is the throughput in MiB a second.
func (r *Result) MiBps() float64 { return float64(r.Bytes) / (1 << 20) / r.Elapsed.Seconds() }

// Percentile is the latency that p (0 to 1) of the operations did not exceed.
func (r *Result) Percentile(p float64) time.Duration {
	if len(r.lat) == 0 {
		return 0
	}
	return r.lat[min(int(p*float64(len(r.lat))), len(r.lat)-1)]
}

// Run does rounds of every target's steps, interleaved step by step, and returns the
// results of each target. It ends early when an operation fails: a rate of failures
// is not a rate. What it is at goes to progress, a terminal, as one line that is
// written over and gone in the end.
func Run(ctx context.Context, progress io.Writer, rounds int, targets ...Target) ([][]Result, error) {
	out := make([][]Result, len(targets))
	defer fmt.Fprint(progress, "\r\x1b[K") // erase in line, ECMA-48
	for r := range rounds {
		steps := make([][]Step, len(targets))
		for t := range targets {
			steps[t] = targets[t].Steps(r)
			if out[t] == nil {
				out[t] = make([]Result, len(steps[t]))
			}
		}
		for s := range steps[0] {
			for i := range targets {
				t := (i + r + s) % len(targets) // neither is always first
				step := steps[t][s]
				fmt.Fprintf(progress, "\r\x1b[Kround %d of %d: %s %s", r+1, rounds, step.Name, targets[t].Name)
				if err := out[t][s].run(ctx, step); err != nil {
					return nil, fmt.Errorf("%s, %s: %w", targets[t].Name, step.Name, err)
				}
			}
		}
		for t := range targets {
			if err := targets[t].Clean(ctx, r); err != nil {
				return nil, fmt.Errorf("%s, removing: %w", targets[t].Name, err)
			}
		}
	}
	for t := range out {
		for s := range out[t] {
			slices.Sort(out[t][s].lat)
		}
	}
	return out, nil
}

// run does one step and adds what it measured.
func (r *Result) run(ctx context.Context, s Step) error {
	r.Step, r.Clients = s.Name, max(r.Clients, s.Clients)
	if s.Count == 0 {
		return nil // not in this round
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	lats := make([][]time.Duration, s.Clients)
	start := time.Now()
	for c := range s.Clients {
		wg.Go(func() {
			lat := make([]time.Duration, 0, s.Count/s.Clients+1)
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= s.Count {
					break
				}
				began := time.Now()
				if err := s.Do(ctx, i); err != nil {
					cancel(err)
					break
				}
				lat = append(lat, time.Since(began))
			}
			lats[c] = lat
		})
	}
	wg.Wait()
	took := time.Since(start)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	r.Ops += s.Count
	r.Bytes += int64(s.Count) * s.Bytes
	r.Elapsed += took
	r.Rates = append(r.Rates, float64(s.Count)/took.Seconds())
	for _, l := range lats {
		r.lat = append(r.lat, l...)
	}
	return nil
}

// Report writes a table: a line a step and target, and on the lines of further targets
// the ratio of the first one's rate to theirs, with its spread over the rounds.
func Report(w io.Writer, targets []Target, results [][]Result) {
	steps, names := len("operation"), len("target")
	for t := range targets {
		names = max(names, len(targets[t].Name))
	}
	for s := range results[0] {
		steps = max(steps, len(title(&results[0][s])))
	}
	fmt.Fprintf(w, "%-*s  %-*s %10s %10s %9s %9s  %s\n", steps, "operation", names, "target", "ops/s", "MiB/s", "p50", "p99", "ratio")
	for s := range results[0] {
		for t := range targets {
			r := &results[t][s]
			if r.Ops == 0 {
				continue
			}
			mib := "-"
			if r.Bytes > 0 {
				mib = fmt.Sprintf("%.1f", r.MiBps())
			}
			ratio := ""
			if t > 0 {
				first := &results[0][s]
				lo, hi := spread(first.Rates, r.Rates)
				ratio = fmt.Sprintf("%.2fx (%.2f-%.2f)", first.Rate()/r.Rate(), lo, hi)
			}
			name := title(r)
			if t > 0 {
				name = ""
			}
			line := fmt.Sprintf("%-*s  %-*s %10.1f %10s %9s %9s  %s", steps, name, names, targets[t].Name, r.Rate(), mib, short(r.Percentile(.5)), short(r.Percentile(.99)), ratio)
			fmt.Fprintln(w, strings.TrimRight(line, " "))
		}
	}
}

// title is a step's name in the table.
func title(r *Result) string {
	if r.Clients == 1 {
		return r.Step + ", 1 client"
	}
	return fmt.Sprintf("%s, %d clients", r.Step, r.Clients)
}

// spread is the smallest and the largest ratio of a round.
func spread(a, b []float64) (lo, hi float64) {
	for i := range a {
		q := a[i] / b[i]
		if i == 0 || q < lo {
			lo = q
		}
		hi = max(hi, q)
	}
	return lo, hi
}

func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%dus", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.1fms", float64(d.Microseconds())/1000)
	default:
		return fmt.Sprintf("%.2fs", d.Seconds())
	}
}
