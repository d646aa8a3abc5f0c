package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"twofold/cluster/info"
)

// fewSets and fewDrives are how many are listed one by one in any case. Of more, sets that
// are alike are one line, and drives are left out that have nothing to tell.
const (
	fewSets   = 8
	fewDrives = 32
)

// silentAfter is when a metadata replica counts as one that does not answer: two of the
// promises that it gives the leader (metadata/replica).
const silentAfter = 2 * time.Second

// infoText is `twofold admin info` for people.
func infoText(in *info.Info, all bool) string {
	var b strings.Builder
	w := &infoWriter{b: &b, in: in, all: all}
	w.head()
	w.nodes()
	w.metadata()
	w.sets()
	w.drives()
	w.mounts()
	return b.String()
}

type infoWriter struct {
	b   *strings.Builder
	in  *info.Info
	all bool
}

// head is what is wrong, a line each, and the store in numbers.
func (w *infoWriter) head() {
	in := w.in
	status := string(in.Status)
	switch {
	case in.Status == info.OK:
		status = "OK"
	case len(in.Problems) == 1:
		status += ": " + in.Problems[0]
	case len(in.Problems) > 1:
		status += fmt.Sprintf(": %s; and %d more:", in.Problems[0], len(in.Problems)-1)
	}
	fmt.Fprintln(w.b, status)
	if len(in.Problems) > 1 {
		for _, p := range in.Problems[1:] {
			fmt.Fprintf(w.b, "  %s\n", p)
		}
	}
	for _, n := range in.Notes {
		fmt.Fprintf(w.b, "note: %s\n", n)
	}
	if !in.Complete {
		fmt.Fprintf(w.b, "note: this is what %s knows by itself\n", in.AnsweredBy)
	}
	fmt.Fprintln(w.b)
	if in.Store != "" {
		fmt.Fprintf(w.b, "store     %s\n", in.Store)
	}
	if c := in.Capacity; c.RawTotal > 0 {
		fmt.Fprintf(w.b, "usable    %s, %s free, %s used (%s)\n", size(c.UsableTotal), size(c.UsableFree), size(c.Used()), percent(c.Used(), c.UsableTotal))
		fmt.Fprintf(w.b, "raw       %s, %s free\n", size(c.RawTotal), size(c.RawFree))
	}
	if in.Buckets >= 0 {
		fmt.Fprintf(w.b, "buckets   %d\n", in.Buckets)
	}
	w.healing()
}

func (w *infoWriter) healing() {
	h := w.in.Healing
	var parts []string
	if h.Refilling > 0 {
		parts = append(parts, counted(h.Refilling, "drive")+" being refilled")
	}
	if h.Queued > 0 {
		parts = append(parts, "for repair: "+counted(h.Queued, "blob"))
	}
	if h.Healed > 0 {
		parts = append(parts, fmt.Sprintf("%d shards (%s) healed", h.Healed, size(uint64(h.HealedBytes))))
	}
	if h.Failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", h.Failed))
	}
	if h.Unrecoverable > 0 {
		parts = append(parts, fmt.Sprintf("%d found too few shards", h.Unrecoverable))
	}
	if len(parts) > 0 {
		fmt.Fprintf(w.b, "healing   %s\n", strings.Join(parts, ", "))
	}
	if h.Scrubbing || h.ScrubbedBlobs > 0 {
		where := ""
		if h.Scrubbing && h.ScrubbedBlobs > 0 {
			where = ", at set " + h.ScrubSet
		}
		fmt.Fprintf(w.b, "scrub     %d blobs (%s) read, %d bad shards%s\n", h.ScrubbedBlobs, size(uint64(h.ScrubbedBytes)), h.ScrubBad, where)
	}
}

func (w *infoWriter) nodes() {
	t := newTable("NODE", "STATE", "FOR", "UPTIME", "VERSION", ">CLOCK", ">RTT", "")
	up := 0
	for _, n := range w.in.Nodes {
		row := []string{n.Name, "up", ago(n.Since), "-", dash(n.Version), "-", "-", ""}
		if n.Up {
			up++
			if n.Uptime >= 0 {
				row[3] = ago(n.Uptime)
			}
			if n.Name != w.in.AnsweredBy {
				row[5] = fmt.Sprintf("%+dms", n.SkewMillis)
				row[6] = fmt.Sprintf("%.1fms", float64(n.RTTMicros)/1000)
			}
		} else {
			row[1] = "down"
		}
		if n.Leads {
			row[7] = "leads for " + ago(n.Leading)
		}
		t.add(row...)
	}
	w.section(fmt.Sprintf("nodes: %d of %d up", up, len(w.in.Nodes)), t)
}

func (w *infoWriter) metadata() {
	m := w.in.Metadata
	if len(m.Replicas) == 0 {
		return
	}
	t := newTable("NODE", "DRIVE", "STATE", ">APPLIED", ">BEHIND", ">HEARD")
	for _, r := range m.Replicas {
		state := "voter"
		switch {
		case r.Lost:
			state = "lost"
		case r.Leader:
			state = "leader"
		case !r.Voter:
			state = "joining"
		case r.ContactMillis > silentAfter.Milliseconds(), r.ContactMillis < 0 && w.in.Complete && len(w.in.Nodes) > 1:
			state = "silent"
		}
		heard := "-"
		if r.ContactMillis >= 0 {
			heard = fmt.Sprint(time.Duration(r.ContactMillis) * time.Millisecond)
		}
		name := r.Path
		if name == "" {
			name = r.Drive
		}
		row := []string{dash(r.Node), name, state, "-", "-", heard}
		if r.Last > 0 {
			row[3], row[4] = fmt.Sprint(r.Applied), fmt.Sprint(r.Behind)
		}
		t.add(row...)
	}
	title := fmt.Sprintf("metadata: %d of %d replicas answer, bears the loss of %d, term %d", m.Live, m.Wanted, m.Bears, m.Term)
	if !w.in.Complete {
		title = fmt.Sprintf("metadata: %d of %d replicas are here", m.Live, m.Wanted)
	}
	w.section(title, t)
}

func (w *infoWriter) sets() {
	if len(w.in.Sets) == 0 {
		return
	}
	t := newTable("SET", ">DRIVES", "CODE", ">READ", ">NEEDS", ">BEARS", ">WRITE", ">NEEDS", ">BEARS")
	grouped := !w.all && len(w.in.Sets) > fewSets
	of := map[info.Set][]string{} // names, by everything else
	var order []info.Set
	for _, s := range w.in.Sets {
		name := s.Set
		if grouped {
			s.Set = ""
		}
		if of[s] == nil {
			order = append(order, s)
		}
		of[s] = append(of[s], name)
	}
	for _, s := range order {
		name := of[s][0]
		if more := len(of[s]) - 1; more > 0 {
			name += fmt.Sprintf(" and %d more", more)
		}
		t.add(name, fmt.Sprint(s.Drives), fmt.Sprintf("%d+%d", s.Drives-s.Parity, s.Parity),
			fmt.Sprint(s.Readable), fmt.Sprint(s.NeedRead), bearing(s.CanRead, s.BearReads),
			fmt.Sprint(s.Writable), fmt.Sprint(s.NeedWrite), bearing(s.CanWrite, s.BearWrites))
	}
	w.section(fmt.Sprintf("sets: %d", len(w.in.Sets)), t)
}

// bearing is how many drives of a set may still be lost.
func bearing(can bool, n int) string {
	if !can {
		return "fails"
	}
	return fmt.Sprint(n)
}

func (w *infoWriter) drives() {
	all := w.in.Drives
	if len(all) == 0 {
		return
	}
	states := map[string]int{}
	t := newTable("NODE", "DRIVE", "SET", ">#", "STATE", ">USED", ">OF", "")
	up := map[string]bool{}
	for _, n := range w.in.Nodes {
		up[n.Name] = n.Up
	}
	left := 0
	for _, d := range all {
		states[d.State]++
		dull := d.State == info.DriveOnline && !d.Healing || d.State == info.DriveUnknown || d.State == info.DriveOffline && !up[d.Node]
		if dull && !w.all && len(all) > fewDrives {
			left++
			continue
		}
		row := []string{d.Node, d.Path, d.Set, fmt.Sprint(d.Index), d.State, "-", "-", ""}
		if d.Total > 0 {
			row[5], row[6] = percent(d.Used(), d.Total), size(d.Total)
		}
		if r := d.Refill; r != nil {
			row[7] = fmt.Sprintf("%d of %d blobs in %s", r.Done, r.Lacking, ago(r.Since))
		} else if d.Healing {
			row[7] = "to be refilled"
		}
		t.add(row...)
	}
	var parts []string
	for _, s := range []string{info.DriveOnline, info.DriveHealing, info.DriveSuspect, info.DriveFull, info.DriveOffline, info.DriveUnknown} {
		if states[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", states[s], s))
		}
	}
	w.section(fmt.Sprintf("drives: %d: %s%s", len(all), strings.Join(parts, ", "), leftOut(left)), t)
}

func (w *infoWriter) mounts() {
	if len(w.in.Mounts) == 0 {
		if w.in.Complete {
			fmt.Fprintf(w.b, "\nmounts: none\n")
		}
		return
	}
	t := newTable(">SESSION", "FROM", "STATE", ">HEARD", ">OPEN", "PID")
	connected := 0
	for _, m := range w.in.Mounts {
		state := "away"
		if m.Connected {
			state = "connected"
			connected++
		}
		pid, _, _ := strings.Cut(m.Process, ".")
		t.add(fmt.Sprint(m.Session), dash(m.Peer), state, ago(m.Silent), fmt.Sprint(m.Opens), dash(pid))
	}
	w.section(fmt.Sprintf("mounts: %d of %d connected", connected, len(w.in.Mounts)), t)
}

// section prints a table under its title; an empty one is the title alone.
func (w *infoWriter) section(title string, t *table) {
	fmt.Fprintf(w.b, "\n%s\n", title)
	t.print(w.b)
}

// leftOut says that drives are not listed with which nothing is wrong, or only that their node
// is down.
func leftOut(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %d are not listed (--all)", n)
}

// table is aligned columns. A title that begins with ">" makes its column one of numbers,
// which end below each other.
type table struct {
	right []bool
	rows  [][]string
}

func newTable(titles ...string) *table {
	t := &table{}
	for i, s := range titles {
		title, right := strings.CutPrefix(s, ">")
		t.right = append(t.right, right)
		titles[i] = title
	}
	t.add(titles...)
	return t
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(b *strings.Builder) {
	if len(t.rows) < 2 {
		return
	}
	wide := make([]int, len(t.right))
	for _, row := range t.rows {
		for i, c := range row {
			wide[i] = max(wide[i], utf8.RuneCountInString(c))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		for i, c := range row {
			pad := strings.Repeat(" ", wide[i]-utf8.RuneCountInString(c))
			if t.right[i] {
				line.WriteString("  " + pad + c)
			} else {
				line.WriteString("  " + c + pad)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// counted is "1 drive", "2 drives".
func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// ago is a length of time in two units at most.
func ago(seconds int64) string {
	switch d := seconds; {
	case d < 60:
		return fmt.Sprintf("%ds", d)
	case d < 3600:
		return fmt.Sprintf("%dm%02ds", d/60, d%60)
	case d < 86400:
		return fmt.Sprintf("%dh%02dm", d/3600, d/60%60)
	default:
		return fmt.Sprintf("%dd%02dh", d/86400, d/3600%24)
	}
}

// size is bytes for people: 1.5 GiB.
func size(n uint64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), -1
	for f >= 999.5 && unit < 5 { // three digits at most
		f, unit = f/1024, unit+1
	}
	return fmt.Sprintf("%.3g %ciB", f, "KMGTPE"[unit])
}

// percent is a part of a whole.
func percent(part, whole uint64) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*float64(part)/float64(whole))
}
