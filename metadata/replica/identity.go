package replica

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"twofold"
	"twofold/internal/errs"
)

// standing is what a replica may do.
type standing string

const (
	// joining: it is being filled and has no vote, whatever its log says.
	joining standing = "joining"
	// member: it knew everything committed when it was last promoted.
	member standing = "member"
)

// identity is a replica's durable record of itself, in meta/g0/replica.json.
type identity struct {
	Version  int
	Drive    twofold.DriveID
	Group    int
	Standing standing
	// Epoch is raised on every remaining replica, durably, before one is given up.
	// A replica with an older epoch than another's was given up while it was away:
	// its log and its vote count for nothing.
	Epoch uint64
	// Voters are the drives that may have a vote: those of raft's configuration,
	// with one that is about to get its vote. It is durable on every replica before
	// the configuration changes, for a replica whose log does not know of it yet.
	Voters []twofold.DriveID
	// LogID is also in the log: a log without it is not the one that was acknowledged
	// in, but a new one in its place.
	LogID string
}

const (
	identityVersion = 1
	identityName    = "replica.json"
)

// readIdentity returns nil and no error where there is none.
func readIdentity(dir string) (*identity, error) {
	const op = "replica.readIdentity"
	raw, err := os.ReadFile(filepath.Join(dir, identityName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, errs.E(op, errs.Other, err)
	}
	return decodeIdentity(raw)
}

// decodeIdentity parses an identity file.
func decodeIdentity(raw []byte) (id *identity, err error) {
	const op = "replica.readIdentity"
	if err := json.Unmarshal(raw, &id); err != nil {
		return nil, errs.E(op, errs.Corrupt, err)
	}
	switch {
	case id == nil || id.Version != identityVersion:
		return nil, errs.Newf(op, errs.Unsupported, "a replica's identity of a version unknown here")
	case id.Standing != joining && id.Standing != member || id.Drive.IsZero():
		return nil, errs.Newf(op, errs.Corrupt, "a replica's identity that says nothing")
	}
	return id, nil
}

// write makes the identity durable.
func (id identity) write(dir string) error {
	raw, err := json.Marshal(id)
	if err != nil {
		return err
	}
	if err := replaceSync(filepath.Join(dir, identityName), append(raw, '\n')); err != nil {
		return errs.E("replica.writeIdentity", errs.Other, err)
	}
	return nil
}
