// Package rpc is how services reach each other and are reached: transports, the chain of checks
// around every handler, and the translation of faults to Connect codes, HTTP statuses and problem+json (RFC 9457).
//
// Nothing behind it is served without a verified peer, and nothing but what says so without a verified
// identity. Which transport carries a call, a handler can't tell.
package rpc

import (
	"context"
	"log/slog"
	"net/http"

	"aran/platform/auth"
)

// IdentityHeader carries the internal token from service to service. The gateway drops it from outside requests.
const IdentityHeader = "Aran-Identity"

// RequestIDHeader names a request; the gateway makes it and every service logs it.
const RequestIDHeader = "Aran-Request-Id"

// Gateway is the peer that may reach Public handlers.
const Gateway = "gateway"

// Server is what the chain around both of a service's handlers needs.
type Server struct {
	Service  string
	Callers  []string // services that may call Internal, from app's table
	Verifier *auth.Verifier
	Log      *slog.Logger
	State    func(ctx context.Context) any // what the gateway may ask at StatePath; nil: nothing
}

// StatePath is where a Public handler tells the gateway how its service stands. No public route leads there.
const StatePath = "/.state"

type (
	peerKey    struct{}
	requestKey struct{}
)

// Peer is the calling service as the transport verified it; empty on a public listener.
func Peer(ctx context.Context) string {
	p, _ := ctx.Value(peerKey{}).(string)
	return p
}

// WithPeer is for transports: it says who they verified.
func WithPeer(ctx context.Context, service string) context.Context {
	return context.WithValue(ctx, peerKey{}, service)
}

// RequestID of the call in hand (set by the chain on both handlers).
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// WithRequestID names the work in hand; what it calls carries the name on.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

const maxRequestID = 64

// requestID takes a peer's request id, if it looks like one.
func requestID(h http.Header) string {
	id := h.Get(RequestIDHeader)
	if len(id) > maxRequestID {
		return ""
	}
	for _, c := range id {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' {
			return ""
		}
	}
	return id
}
