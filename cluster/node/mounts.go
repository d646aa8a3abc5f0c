package node

import (
	"context"

	"twofold"
	"twofold/volume"
	"twofold/volume/api"
	"twofold/volume/remote"
)

// Mounts is the store as the server of mounts sees it.
func (l *Leading) Mounts() remote.Sessions { return mounts{l.volume} }

type mounts struct{ v *volume.Volume }

var (
	_ remote.Sessions = mounts{}
	_ remote.Session  = (*volume.Session)(nil)
)

// Leads implements remote.Sessions.
func (m mounts) Leads() bool { return m.v.Leads() }

// Begin implements remote.Sessions.
func (m mounts) Begin(ctx context.Context, node string, holder api.Holder) (remote.Session, error) {
	s, err := m.v.BeginMount(ctx, node, holder)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Resume implements remote.Sessions.
func (m mounts) Resume(ctx context.Context, id twofold.SessionID, token []byte, held api.Held, holder api.Holder) (remote.Session, error) {
	s, err := m.v.ResumeMount(ctx, id, token, held, holder)
	if err != nil {
		return nil, err
	}
	return s, nil
}
