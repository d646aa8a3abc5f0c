package fsm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// guarded runs a command with guards: first with an empty one, which says what the
// command would change; then, where that is anything, with one target or name missing,
// which changes nothing; then with exactly what it takes. It returns the last
// result, and the guard.
func (d *duel) guarded(op metadata.Op, body any) (metadata.Result, []metadata.Target) {
	d.t.Helper()
	d.seq++
	now := d.now + 1
	run := func(guard []metadata.Target) metadata.Result {
		res := d.raw(&metadata.Command{Op: op, Session: d.session, Seq: d.seq, Acked: d.seq, Writer: d.session, Now: now, Body: body, Guard: guard})
		d.now = now
		return res
	}
	before := ""
	dumped := d.rnd.IntN(20) == 0 // it takes longer than all the rest
	if dumped {
		before = d.dumpState()
	}
	res := run([]metadata.Target{})
	if res.Unguarded == nil {
		return res, nil
	}
	all := res.Unguarded
	without, lacks := d.lessOne(all)
	if res = run(without); !slices.EqualFunc(res.Unguarded, lacks, sameTarget) || !res.Failed || res.Kind != errs.Conflict {
		d.t.Fatalf("step %d: %T %+v with guard %v: unguarded %v, want %v", d.seq, body, body, without, res.Unguarded, lacks)
	}
	if dumped {
		if after := d.dumpState(); after != before {
			d.t.Fatalf("step %d: %T %+v: a command that its guard refused changed the state:\n%s\n%s", d.seq, body, body, before, after)
		}
	}
	if res = run(all); res.Unguarded != nil {
		d.t.Fatalf("step %d: %T %+v: its own guard %v lacks %v", d.seq, body, body, all, res.Unguarded)
	}
	return res, all
}

func sameTarget(a, b metadata.Target) bool { return a.Ino == b.Ino && slices.Equal(a.Names, b.Names) }

// lessOne is a guard without one of its inodes, or one of its names, and what is missing then.
func (d *duel) lessOne(all []metadata.Target) (without, lacks []metadata.Target) {
	n := d.rnd.IntN(len(all))
	t := all[n]
	without = slices.Clone(all)
	if len(t.Names) == 0 || d.rnd.IntN(2) == 0 {
		return slices.Delete(without, n, n+1), []metadata.Target{t}
	}
	k := d.rnd.IntN(len(t.Names))
	// One name that is not there keeps it from meaning all.
	without[n].Names = append(slices.Delete(slices.Clone(t.Names), k, k+1), "another")
	return without, []metadata.Target{{Ino: t.Ino, Names: []string{t.Names[k]}}}
}

// dumpState is the state without the applied index, which every command moves on.
func (d *duel) dumpState() string {
	var b strings.Builder
	applied := fmt.Sprintf("%x=", keyApplied)
	for line := range strings.Lines(dump(d.t, d.store)) {
		if !strings.HasPrefix(line, applied) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// visible is what the model shows of its nodes: attributes and content, and entries.
type visible struct {
	attrs   string
	entries map[string]*mnode
}

func (m *model) visible() map[*mnode]visible {
	all := map[*mnode]visible{}
	for n := range m.nodes {
		v := visible{entries: maps.Clone(n.children)}
		a := n.attr
		v.attrs = fmt.Sprint(n.typ, n.links, n.etag, n.version, n.explicit, n.data.size, n.data.bytes,
			a.Mode, a.ModeSet, a.UID, a.UIDSet, a.GID, a.GIDSet, a.Atime, a.Mtime, a.Ctime, a.Headers, a.UserMeta)
		all[n] = v
	}
	return all
}

// checkGuard compares a command's guard with what it changed in the model: all of that
// is in it, and of names nothing else.
func (d *duel) checkGuard(what string, before map[*mnode]visible, guard []metadata.Target) {
	d.t.Helper()
	after := d.m.visible()
	for n, old := range before {
		var in *metadata.Target
		for i := range guard {
			if guard[i].Ino == n.ino {
				in = &guard[i]
			}
		}
		now, there := after[n]
		names := map[string]bool{}
		for s, c := range old.entries {
			if there && now.entries[s] != c {
				names[strings.TrimSuffix(s, "/")] = true
			}
		}
		for s := range now.entries {
			if old.entries[s] == nil {
				names[strings.TrimSuffix(s, "/")] = true
			}
		}
		if in != nil {
			for _, s := range in.Names {
				// An object and a directory of one name that were exchanged are as before.
				if old.entries[s] != nil && old.entries[s+"/"] != nil {
					names[s] = true
				}
			}
		}
		changed := slices.Sorted(maps.Keys(names))
		switch {
		case in == nil && (!there || now.attrs != old.attrs || len(changed) > 0):
			d.t.Fatalf("step %d: %s changed inode %d and names %q in it, guard %v\n%s\n%s", d.seq, what, n.ino, changed, guard, old.attrs, now.attrs)
		case in != nil && !slices.Equal(in.Names, changed):
			d.t.Fatalf("step %d: %s changed names %q of inode %d, guard %v", d.seq, what, changed, n.ino, guard)
		}
	}
}

// TestUnguardedIsNotKept: a command that its guard refused runs when it comes again
// under its number, and its kept result is then that of the run.
func TestUnguardedIsNotKept(t *testing.T) {
	r := newRig(t)
	b := r.bucket("one")
	f := r.put(b, "f", "x")
	r.seq++
	unlink := func(guard []metadata.Target) metadata.Result {
		return r.raw(&metadata.Command{Op: metadata.OpUnlink, Session: r.session, Seq: r.seq, Body: metadata.Unlink{Parent: b.Root, Name: metadata.Name{Comp: "f"}}, Guard: guard})
	}
	if res := unlink([]metadata.Target{{Ino: b.Root, Names: []string{"f"}}}); len(res.Unguarded) != 1 || res.Unguarded[0].Ino != f.Ino {
		t.Fatalf("without the file in its guard: %+v", res)
	}
	if res := unlink([]metadata.Target{{Ino: b.Root}, {Ino: f.Ino}}); res.Failed {
		t.Fatalf("with all of it: %+v", res)
	}
	if res := unlink([]metadata.Target{}); res.Failed || res.Unguarded != nil || res.Inode == nil || res.Inode.Ino != f.Ino {
		t.Fatalf("the kept result: %+v", res)
	}
	r.check()
}

// TestGuardOfNewInodes: what a command makes needs no guard, nor do names in it.
func TestGuardOfNewInodes(t *testing.T) {
	r := newRig(t)
	b := r.bucket("one")
	put := metadata.PutObject{Bucket: b.ID, Key: twofold.Key("a/b/c"), Content: metadata.Content{ETag: "e"}}
	r.seq++
	res := r.raw(&metadata.Command{Op: metadata.OpPutObject, Session: r.session, Seq: r.seq, Body: put, Guard: []metadata.Target{{Ino: b.Root, Names: []string{"a"}}}})
	if res.Failed {
		t.Fatalf("%+v", res)
	}
	r.check()
}
