package rpc

import "github.com/spiffe/go-spiffe/v2/spiffeid"

// PeerOfPath is the service that a SPIFFE path names.
func PeerOfPath(domain, path string) string {
	td := spiffeid.RequireTrustDomainFromString(domain)
	id, err := spiffeid.FromPath(td, path)
	if err != nil {
		return ""
	}
	return serviceOf(td, id)
}
