// Package auth says who is calling: internal identities, the tokens that carry them, and the form of API keys.
//
// An identity is good for one service (audience), from one calling service (authorised party), for minutes.
// The package signs, verifies and exchanges; who may do what is the services' own decision, by scope.
package auth

import (
	"context"
	"slices"

	"aran/platform/fault"
)

// Identity is a verified caller, from the edge to the last service.
type Identity struct {
	Tenant     string
	Subject    string // "user:<id>", or "key:<id>" for a key that belongs to no person
	Scopes     []string
	Roles      []string
	Tier       string   // rate-limit tier; "unlimited" for the administrator's key
	Credential string   // key id or session id
	Caller     string   // calling service (azp), set from the verified peer
	Audience   string   // the service that this identity was made for
	Models     []string // model targets that the route allows; empty: all
}

// Scopes that routes ask for. "*" holds all of them, also those to come.
const (
	ScopeAll         = "*"
	ScopeChat        = "chat:use"
	ScopeEmbed       = "models:use"
	ScopeModels      = "models:read"
	ScopeModelsWrite = "models:manage" // for the whole platform
	ScopeSearchRead  = "search:read"
	ScopeSearchWrite = "search:write"
	ScopeReview      = "search:review" // of what the guard refused
	ScopeGuard       = "guard:use"
	ScopeGuardManage = "guard:manage" // policies, allow-lists and reports of the tenant
	ScopeAudit       = "audit:read"
	ScopeKeysRead    = "keys:read"
	ScopeKeysWrite   = "keys:write"
	ScopeTenant      = "tenant:read"
	ScopeOperate     = "operate:read"
	ScopeWebhooks    = "webhooks:manage"
	ScopeItems       = "items:write"
	ScopeInteract    = "interactions:write"
	ScopeRecommend   = "recommendations:read"
)

// Has reports whether the identity holds the scope.
func (id Identity) Has(scope string) bool {
	return slices.Contains(id.Scopes, scope) || slices.Contains(id.Scopes, ScopeAll)
}

// Require returns a fault.Denied that names the missing scope.
func (id Identity) Require(scope string) error {
	if id.Has(scope) {
		return nil
	}
	return fault.New(fault.Denied, "scope_missing", "This needs the scope %q, which the credential does not have.", scope)
}

type contextKey struct{}

type carried struct {
	id    Identity
	token string
}

// From returns the identity that a handler was called with; the zero Identity when there is none (it has no scopes).
func From(ctx context.Context) Identity {
	c, _ := ctx.Value(contextKey{}).(carried)
	return c.id
}

// With puts an identity, and the token that carried it, into a context.
func With(ctx context.Context, id Identity, token string) context.Context {
	return context.WithValue(ctx, contextKey{}, carried{id, token})
}

// Token returns the internal token that the handler was called with, for exchange.
func Token(ctx context.Context) string {
	c, _ := ctx.Value(contextKey{}).(carried)
	return c.token
}
