package replica

import (
	"context"
	"testing"
	"time"
)

// TestSharedAddedAgain: a replica that runs and votes is not made anew because somebody asks
// for it late, as a node may that led when it was missing.
func TestSharedAddedAgain(t *testing.T) {
	t.Parallel()
	f := startFabric(t, 1, 1, 1)
	f.apply("n")
	p := f.follower()
	n := p.group().node(p.dirs[0].Drive)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := p.group().AddReplica(ctx, p.dirs[0]); err != nil {
		t.Fatal(err)
	}
	if p.group().node(p.dirs[0].Drive) != n {
		t.Error("a sound replica was made anew")
	}
	// Also where nobody can tell: two of three.
	for _, q := range f.nodes {
		if q != p {
			q.stop()
		}
	}
	short, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := p.group().AddReplica(short, p.dirs[0]); err == nil {
		t.Error("made without a leader")
	}
	if p.group().node(p.dirs[0].Drive) != n || n.isGone() {
		t.Error("a sound replica was taken out")
	}
}
