package drives

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// ServerOptions configure a Server. Zero values are the defaults.
type ServerOptions struct {
	Logger *slog.Logger
	// Idle is after how long without use a handle ends: a shard being written whose
	// writer does not say that it is still there, an open shard, a walk. 2 minutes.
	Idle time.Duration
	// OnBad is called when another node says that a shard here is missing or bad. It
	// must not block.
	OnBad func(d drive.Drive, b twofold.BlobID, why string)
}

// Server lets other nodes use drives of this process. It serves the methods MethodFirst
// to MethodLast. Safe for concurrent use.
type Server struct {
	opt ServerOptions

	mu     sync.Mutex
	closed bool                        // guarded by mu
	drives map[twofold.DriveID]*served // guarded by mu
	peers  map[*rpc.Conn]*peer         // guarded by mu; those with handles, or that had some
	wg     sync.WaitGroup              // of goroutines of peers; added to under mu
}

// NewServer returns a server of no drives.
func NewServer(o ServerOptions) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Idle == 0 {
		o.Idle = 2 * time.Minute
	}
	if o.OnBad == nil {
		o.OnBad = func(d drive.Drive, b twofold.BlobID, why string) {
			o.Logger.Warn("another node found a bad shard", "drive", d.String(), "blob", b, "why", why)
		}
	}
	return &Server{opt: o, drives: make(map[twofold.DriveID]*served), peers: make(map[*rpc.Conn]*peer)}
}

// Add serves a drive, in place of one with the same id that is served already. What it has
// beside drive.Drive is served where it is there: FileSystem, Format, Healing and
// SetHealing as a *drive.Local has them.
func (s *Server) Add(d drive.Drive) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drives[d.ID()] = &served{Drive: d}
}

// Remove stops serving a drive. Shards of it that are open stay so.
func (s *Server) Remove(id twofold.DriveID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.drives, id)
}

// Close ends all handles, and waits for them. Requests that come later are refused.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for _, p := range s.peers {
		p.cancel()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// drive finds a served drive. One that isn't there is errs.Unavailable: that says nothing
// of its shards.
func (s *Server) drive(id twofold.DriveID) (*served, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.drives[id]; d != nil && !s.closed {
		return d, nil
	}
	return nil, errs.Newf("drives.Server", errs.Unavailable, "drive %s is not here", id)
}

// Serve answers one request of another node. What r.Payload has is read before it returns.
func (s *Server) Serve(ctx context.Context, _ int, r *rpc.Request) (rpc.Answer, error) {
	switch r.Method {
	case mTell:
		return s.tell(ctx, r)
	case mWrite:
		return s.write(ctx, r)
	case mAbort:
		return s.abort(r)
	case mKeep:
		return s.keep(r)
	case mOpen:
		return s.open(ctx, r)
	case mRead:
		return s.read(ctx, r)
	case mClose:
		return s.closeReaders(r)
	case mDelete:
		return s.delete(ctx, r)
	case mWalk:
		return s.walk(ctx, r)
	case mUsage:
		return s.usage(ctx, r)
	case mHealing:
		return s.healing(ctx, r)
	case mFormat:
		return s.format(r)
	case mBad:
		return s.bad(r)
	}
	return rpc.Answer{}, errs.Newf("drives.Server", errs.Unsupported, "method %d", r.Method)
}

// decode checks a request's seal and reads it into msg.
func decode(r *rpc.Request, msg any) error {
	var s sealed
	if r.Decode(&s) != nil {
		return errTorn
	}
	return s.open(r.Conn.Codec(), r.Method, r.Payload, msg)
}

// answer seals an answer; free, where set, is called when the payload has been sent, or
// can't be.
func answer(r *rpc.Request, msg any, payload []byte, free func()) (rpc.Answer, error) {
	h, err := seal(r.Conn.Codec(), r.Method, msg, payload)
	if err != nil {
		if free != nil {
			free()
		}
		return rpc.Answer{}, err
	}
	return rpc.Answer{Header: &h, Payload: payload, Free: free}, nil
}

// done is an answer without content, or the error.
func done(r *rpc.Request, err error) (rpc.Answer, error) {
	if err != nil {
		return rpc.Answer{}, err
	}
	return answer(r, nil, nil, nil)
}

func (s *Server) delete(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	var q blobRequest
	err := decode(r, &q)
	if err != nil {
		return rpc.Answer{}, err
	}
	d, err := s.drive(q.Drive)
	if err == nil {
		err = d.Delete(ctx, q.Blob)
	}
	return done(r, err)
}

func (s *Server) usage(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	var q driveRequest
	if err := decode(r, &q); err != nil {
		return rpc.Answer{}, err
	}
	d, err := s.drive(q.Drive)
	if err != nil {
		return rpc.Answer{}, err
	}
	u, err := d.Usage(ctx)
	if err != nil {
		return rpc.Answer{}, err
	}
	return answer(r, &usage{Total: u.Total, Free: u.Free}, nil, nil)
}

func (s *Server) healing(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	var q healingRequest
	if err := decode(r, &q); err != nil {
		return rpc.Answer{}, err
	}
	d, err := s.drive(q.Drive)
	if err != nil {
		return rpc.Answer{}, err
	}
	h, ok := d.Drive.(interface {
		SetHealing(ctx context.Context, healing bool) error
	})
	if !ok {
		return rpc.Answer{}, errs.Newf("drives.Server", errs.Unsupported, "%s can't be marked as being refilled", d)
	}
	return done(r, h.SetHealing(ctx, q.Healing))
}

func (s *Server) format(r *rpc.Request) (rpc.Answer, error) {
	var q driveRequest
	if err := decode(r, &q); err != nil {
		return rpc.Answer{}, err
	}
	d, err := s.drive(q.Drive)
	if err != nil {
		return rpc.Answer{}, err
	}
	f, ok := d.Drive.(interface{ Format() drive.Format })
	if !ok {
		return rpc.Answer{}, errs.Newf("drives.Server", errs.Unsupported, "%s has no format", d)
	}
	return answer(r, f.Format(), nil, nil)
}

func (s *Server) bad(r *rpc.Request) (rpc.Answer, error) {
	var q badRequest
	if err := decode(r, &q); err != nil {
		return rpc.Answer{}, err
	}
	d, err := s.drive(q.Drive)
	if err == nil {
		s.opt.OnBad(d.Drive, q.Blob, q.Why[:min(len(q.Why), maxWhy)])
	}
	return done(r, err)
}

// served is a drive with its space as it was a moment ago.
type served struct {
	drive.Drive

	mu     sync.Mutex
	asking bool      // guarded by mu; a goroutine asks the drive
	space  *usage    // guarded by mu; nil where the drive didn't say
	at     time.Time // guarded by mu; of space
}

// usageAge is how old a drive's space may be that is told.
const usageAge = time.Second

// tellWait is how long an answer to mTell waits for drives to say what space they have:
// the states of all others are not held up by one that hangs.
const tellWait = 50 * time.Millisecond

// ask has the drive asked for its space, unless it is being asked, and counts in wg.
func (d *served) ask(wg *sync.WaitGroup) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asking || d.State() == drive.Offline {
		return
	}
	d.asking = true
	wg.Add(1)
	go func() {
		defer wg.Done()
		at := time.Now()
		u, err := d.Usage(context.Background()) // it has a deadline of its own
		d.mu.Lock()
		defer d.mu.Unlock()
		d.asking, d.space, d.at = false, nil, at
		if err == nil {
			d.space = &usage{Total: u.Total, Free: u.Free}
		}
	}()
}

// told describes the drive.
func (d *served) told() told {
	t := told{Drive: d.ID(), State: d.State()}
	if f, ok := d.Drive.(interface{ Format() drive.Format }); ok {
		t.Cluster = f.Format().Cluster
	}
	if f, ok := d.Drive.(interface{ FileSystem() uint64 }); ok {
		t.FileSystem = f.FileSystem()
	}
	if h, ok := d.Drive.(interface{ Healing() bool }); ok {
		t.Healing = h.Healing()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.at) < usageAge {
		t.Usage = d.space
	}
	return t
}

// tell describes all drives.
func (s *Server) tell(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	if err := decode(r, nil); err != nil {
		return rpc.Answer{}, err
	}
	s.mu.Lock()
	var all []*served
	for _, d := range s.drives {
		all = append(all, d)
	}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return rpc.Answer{}, errs.Newf("drives.Server", errs.Unavailable, "shutting down")
	}
	var wg sync.WaitGroup
	for _, d := range all {
		d.ask(&wg)
	}
	asked := make(chan struct{})
	go func() { wg.Wait(); close(asked) }()
	timer := time.NewTimer(tellWait)
	defer timer.Stop()
	select {
	case <-asked:
	case <-timer.C:
	case <-ctx.Done():
	}
	var a tellAnswer
	for _, d := range all {
		a.Drives = append(a.Drives, d.told())
	}
	slices.SortFunc(a.Drives, func(x, y told) int { return slices.Compare(x.Drive[:], y.Drive[:]) })
	return answer(r, &a, nil, nil)
}
