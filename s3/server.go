package s3

import (
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/mux"

	"twofold/s3/sigv4"
)

// DefaultRegion is the region where none is configured, as AWS has it.
const DefaultRegion = "us-east-1"

// Config is what a Server needs.
type Config struct {
	Volume      Volume
	Credentials sigv4.Credentials
	Region      string           // empty: DefaultRegion
	Domains     []string         // hosts under which buckets are names: bucket.domain
	Logger      *slog.Logger     // requests at debug, failures of the store at error
	Now         func() time.Time // nil: time.Now
	// IdleTimeout is how long a client may take to send or to accept anything at
	// all within a request. 0: one minute.
	IdleTimeout time.Duration
}

// Server answers S3 requests. Safe for concurrent use.
type Server struct {
	volume  Volume
	auth    *sigv4.Verifier
	region  string
	domains []string // lower-case, with a dot in front
	log     *slog.Logger
	idle    time.Duration
	now     func() time.Time
	hostID  []string // x-amz-id-2
	router  *mux.Router
	bufs    sync.Pool // of *[]byte, for XML
	hashes  sync.Pool // of *hashes
	md5     *md5Hashes
	static  staticHeaders
}

// staticHeaders are values that many responses share. Never changed.
type staticHeaders struct{ server, xml, zero, bytes []string }

var _ http.Handler = (*Server)(nil)

// New returns a server. Serve it with the limits of HTTPServer.
func New(cfg Config) *Server {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Region == "" {
		cfg.Region = DefaultRegion
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	var id [48]byte
	rand.Read(id[:])
	s := &Server{
		volume: cfg.Volume,
		auth:   sigv4.New(cfg.Credentials, cfg.Region, cfg.Now),
		region: cfg.Region,
		log:    cfg.Logger,
		idle:   cfg.IdleTimeout,
		now:    cfg.Now,
		hostID: []string{base64.StdEncoding.EncodeToString(id[:])},
		bufs:   sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }},
		hashes: sync.Pool{New: func() any { return newHashes() }},
		md5:    newMD5Hashes(),
		static: staticHeaders{server: []string{"Twofold"}, xml: []string{"application/xml"}, zero: []string{"0"}, bytes: []string{"bytes"}},
	}
	s.domains = dotted(cfg.Domains)
	s.router = s.routes()
	return s
}

// Close ends the server's own goroutines. Requests under way go on.
func (s *Server) Close() error {
	s.md5.close()
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 && expectsContinue(r) {
		// net/http says "continue" when the body is first read, and an empty one never
		// is. boto and the aws-cli expect it for empty files too, and spoil their
		// connection when the answer comes without: its next request hangs a minute.
		w.WriteHeader(http.StatusContinue)
	}
	s.router.ServeHTTP(w, r)
}

// HTTPServer returns a server for h with limits that keep slow and hostile clients
// from holding it: headers must be there within 20 seconds and 64 KiB, idle
// connections go after two minutes. Bodies have no total time limit; the handlers
// bound how long they may stand still, and how slow they may be.
func HTTPServer(h http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 20 * time.Second,
		WriteTimeout:      2 * time.Minute, // until a handler sets its own
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}
