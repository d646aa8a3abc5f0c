package replica

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"twofold"
	"twofold/metadata"
	"twofold/metadata/fsm"
	"twofold/metadata/kv"
)

func newReal(store kv.Store) (StateMachine, error) { return fsm.New(store, fsm.Options{}) }

// client is a session that puts objects.
type client struct {
	t       testing.TB
	g       *Group
	session twofold.SessionID
	bucket  twofold.BucketID
}

func newClient(t testing.TB, g *Group) *client {
	t.Helper()
	c := &client{t: t, g: g}
	c.session = twofold.SessionID(c.apply(0, metadata.OpBeginSession, &metadata.BeginSession{Kind: 1, Node: "test", Nonce: twofold.NewUUID()}).ID)
	res := c.apply(1, metadata.OpCreateBucket, &metadata.CreateBucket{Name: "bucket"})
	c.bucket = res.Bucket.ID
	return c
}

func (c *client) apply(seq uint64, op metadata.Op, body any) *metadata.Result {
	c.t.Helper()
	res, err := c.g.Apply(context.Background(), &metadata.Command{
		Op: op, Session: c.session, Seq: seq, Now: twofold.Now(), Body: body,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return res
}

func (c *client) put(seq uint64, acked uint64, key string, data []byte) error {
	_, err := c.g.Apply(context.Background(), &metadata.Command{
		Op: metadata.OpPutObject, Session: c.session, Seq: seq, Acked: acked, Now: twofold.Now(),
		Body: &metadata.PutObject{
			Bucket: c.bucket, Key: twofold.Key(key),
			Content: metadata.Content{Size: int64(len(data)), ETag: "0123456789abcdef0123456789abcdef"},
			Extents: []metadata.Extent{{Off: 0, Len: int64(len(data)), Data: data}},
		},
	})
	return err
}

// TestRealMachine puts objects through the real state machine, over a lost leader
// and a restart, and compares the replicas.
func TestRealMachine(t *testing.T) {
	dirs := testDirs(t, 4)
	g := openTest(t, Options{Dirs: dirs, Bootstrap: true, NewMachine: newReal})
	c := newClient(t, g)
	data := bytes.Repeat([]byte("x"), 4096)
	for i := range 200 {
		if err := c.put(uint64(i+2), uint64(i), fmt.Sprintf("dir%d/key%d", i%7, i), data); err != nil {
			t.Fatal(err)
		}
		if i == 100 {
			leader, _ := leaderAndOthers(t, g)
			destroy(t, leader)
		}
	}
	check := func(g *Group) {
		err := g.View(context.Background(), func(v metadata.View) error {
			page, err := v.List(c.bucket, metadata.ListQuery{Max: 1000})
			if err == nil && len(page.Items) != 200 {
				t.Errorf("%d objects", len(page.Items))
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	check(g)
	wait(t, 10*time.Second, "three replicas", settled(g, 3))
	for _, n := range g.running() {
		wait(t, 5*time.Second, "applied", func() bool {
			return n.host.cur.Load().machine.Applied() == g.leader().host.cur.Load().machine.Applied()
		})
		if !bytes.Equal(content(t, n), content(t, g.leader())) {
			t.Error("replicas differ")
		}
	}
	if err := g.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	check(openTest(t, Options{Dirs: dirs, NewMachine: newReal}))
}
