package repair

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"twofold"
	"twofold/engine"
)

// maxAttempts is how often a heal is tried before it is left to a refill: with the
// delay doubling from 1 s, for about 20 minutes.
const maxAttempts = 11

// hopelessAttempts is how often a heal is tried that finds too few good shards: a
// drive may be away for a moment. The refill of that drive tries once more.
const hopelessAttempts = 11

// unwantedAttempts is how often it is asked whether a blob has become wanted: one is
// reported when its write ends, and committed only then.
const unwantedAttempts = 5

// maxRetryDelay is where the delay stops to double.
const maxRetryDelay = 10 * time.Minute

// item is a blob to heal.
type item struct {
	damage   engine.Damage
	attempts int
	due      time.Time
	index    int // in the heap; -1: with a worker
}

func (it *item) join(d engine.Damage) {
	it.damage.Shards |= d.Shards
	it.damage.Wrong |= d.Wrong
}

// queue holds reports until a worker has time for them: one item a blob, the
// earliest due first. Safe for concurrent use.
type queue struct {
	max   int
	delay time.Duration
	wake  chan struct{} // has a token when something was added

	mu       sync.Mutex // guards what follows
	byID     map[twofold.BlobID]*item
	due      dueHeap
	overflow map[twofold.SetID]bool // sets of which reports were dropped
}

func newQueue(max int, delay time.Duration) *queue {
	return &queue{
		max: max, delay: delay, wake: make(chan struct{}, 1),
		byID: make(map[twofold.BlobID]*item), overflow: make(map[twofold.SetID]bool),
	}
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.due)
}

// add queues a report, or joins it to one of the same blob.
func (q *queue) add(d engine.Damage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it := q.byID[d.Blob]; it != nil {
		it.join(d)
		return
	}
	if len(q.byID) >= q.max {
		q.overflow[d.Set] = true
		return
	}
	q.push(&item{damage: d, due: time.Now()})
}

// push adds it; the caller holds mu.
func (q *queue) push(it *item) {
	q.byID[it.damage.Blob] = it
	heap.Push(&q.due, it)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits for an item that is due. It is gone from the queue; retry puts it back.
func (q *queue) take(ctx context.Context) (*item, bool) {
	for ctx.Err() == nil {
		wait := time.Hour
		q.mu.Lock()
		if len(q.due) > 0 {
			if wait = time.Until(q.due[0].due); wait <= 0 {
				it := heap.Pop(&q.due).(*item)
				delete(q.byID, it.damage.Blob)
				more := len(q.due) > 0
				q.mu.Unlock()
				if more {
					q.signal()
				}
				return it, true
			}
		}
		q.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-q.wake:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
	return nil, false
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// retry queues an item again, later each time, and reports false when it has been
// tried most times.
func (q *queue) retry(it *item, most int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	it.attempts++
	if other := q.byID[it.damage.Blob]; other != nil {
		other.join(it.damage)
		return true
	}
	if it.attempts >= most {
		return false
	}
	it.due = time.Now().Add(min(q.delay<<(it.attempts-1), maxRetryDelay))
	q.push(it)
	return true
}

// spill notes that blobs of a set need healing that the queue does not know.
func (q *queue) spill(set twofold.SetID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.overflow[set] = true
}

// spilled returns a set of which reports were dropped, once.
func (q *queue) spilled() (twofold.SetID, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.byID) > q.max/2 {
		return twofold.SetID{}, false // the walk would only fill it again
	}
	for id := range q.overflow {
		delete(q.overflow, id)
		return id, true
	}
	return twofold.SetID{}, false
}

// dueHeap orders items by when they are due.
type dueHeap []*item

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *dueHeap) Push(x any) {
	it := x.(*item)
	it.index = len(*h)
	*h = append(*h, it)
}
func (h *dueHeap) Pop() any {
	old := *h
	it := old[len(old)-1]
	*h = old[:len(old)-1]
	it.index = -1
	return it
}
