package rpc

import (
	"context"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// PeerOfPath is the service that a SPIFFE path names.
func PeerOfPath(domain, path string) string {
	td := spiffeid.RequireTrustDomainFromString(domain)
	id, err := spiffeid.FromPath(td, path)
	if err != nil {
		return ""
	}
	return serviceOf(td, id)
}

// LimitStreams is for Listen: so many calls fit on one connection.
func (m *Mesh) LimitStreams(n int) { m.maxStreams = n }

// Resolve replaces the name service.
func (f *Far) Resolve(lookup func(ctx context.Context, host string) ([]string, error)) {
	f.lookup = lookup
}
