package user

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	pb "aran/api/gen/aran/user/v1"
	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
)

// Public serves people and their programs.
func (s *Service) Public() *rpc.Public { return s.public }

type accountBody struct {
	ID      string    `json:"id" doc:"the account's id"`
	Subject string    `json:"subject" doc:"as it stands in access lists" example:"user:0190…"`
	Tenant  string    `json:"tenant"`
	Email   string    `json:"email,omitempty"`
	Name    string    `json:"name,omitempty"`
	Scopes  []string  `json:"scopes"`
	Created time.Time `json:"created_at"`
}

type accountOut struct{ Body accountBody }

func showAccount(a Account, subject string) *accountOut {
	return &accountOut{accountBody{ID: a.ID, Subject: subject, Tenant: a.Tenant, Email: a.Mail, Name: a.Name, Scopes: a.Scopes, Created: a.Created.UTC()}}
}

type sessionBody struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type" example:"Bearer"`
	ExpiresIn    int64  `json:"expires_in" doc:"seconds"`
	RefreshToken string `json:"refresh_token" doc:"good for one use"`
}

type sessionOut struct{ Body sessionBody }

func showSession(x Session) *sessionOut {
	return &sessionOut{sessionBody{x.Access, "Bearer", int64(x.Expires.Seconds()), x.Refresh}}
}

type keyBody struct {
	ID      string     `json:"id"`
	Key     string     `json:"key,omitempty" doc:"the key itself, in this answer only"`
	Name    string     `json:"name"`
	Prefix  string     `json:"prefix" doc:"how the key begins"`
	Scopes  []string   `json:"scopes"`
	Created time.Time  `json:"created_at"`
	Expires *time.Time `json:"expires_at,omitempty"`
	Revoked *time.Time `json:"revoked_at,omitempty"`
}

type keyOut struct{ Body keyBody }

func showKey(k Key, secret string) keyBody {
	return keyBody{ID: k.ID, Key: secret, Name: k.Name, Prefix: k.Prefix, Scopes: k.Scopes, Created: k.Created.UTC(), Expires: optional(k.Expires), Revoked: optional(k.Revoked)}
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

type keyPath struct {
	ID string `path:"id" maxLength:"64"`
}

func (s *Service) routes() *rpc.Public {
	p := rpc.NewPublic(s.server, "Identity")
	s.accountRoutes(p)
	s.sessionRoutes(p)
	s.keyRoutes(p)
	p.Handle(http.MethodGet, "/.well-known/jwks.json", rpc.Access{Anyone: true}, 0, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := s.signer.jwks()
		if err != nil {
			rpc.Problem(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Header().Set("Cache-Control", "public, max-age=300")
		_, _ = w.Write(b)
	}))
	return p
}

func (s *Service) accountRoutes(p *rpc.Public) {
	type signUp struct {
		Body struct {
			Email    string `json:"email" doc:"e-mail address"`
			Password string `json:"password" doc:"12 characters or more"`
			Name     string `json:"name,omitempty"`
		}
	}
	rpc.Register(p, huma.Operation{OperationID: "createAccount", Method: http.MethodPost, Path: "/api/v1/accounts", Summary: "Sign up; makes a tenant of your own", DefaultStatus: http.StatusCreated}, rpc.Access{Anyone: true},
		func(ctx context.Context, in *signUp) (*accountOut, error) {
			if err := rpc.Validate(&pb.CreateAccountRequest{Email: in.Body.Email, Password: in.Body.Password, Name: in.Body.Name}); err != nil {
				return nil, err
			}
			a, err := s.SignUp(ctx, in.Body.Email, in.Body.Password, in.Body.Name)
			if err != nil {
				return nil, err
			}
			return showAccount(a, a.Subject()), nil
		})
	rpc.Register(p, huma.Operation{OperationID: "getMe", Method: http.MethodGet, Path: "/api/v1/me", Summary: "Who am I"}, rpc.Access{Signed: true},
		func(ctx context.Context, _ *struct{}) (*accountOut, error) {
			id := auth.From(ctx)
			a, err := s.Me(ctx, id)
			if err != nil {
				return nil, err
			}
			a.Scopes = id.Scopes
			return showAccount(a, id.Subject), nil
		})
	type rename struct {
		Body struct {
			Name string `json:"name" maxLength:"128"`
		}
	}
	rpc.Register(p, huma.Operation{OperationID: "changeMe", Method: http.MethodPatch, Path: "/api/v1/me", Summary: "Change my name"}, rpc.Access{Signed: true},
		func(ctx context.Context, in *rename) (*accountOut, error) {
			a, err := s.Rename(ctx, auth.From(ctx), in.Body.Name)
			if err != nil {
				return nil, err
			}
			return showAccount(a, a.Subject()), nil
		})
	type tenantsOut struct {
		Body struct {
			Tenants []tenantBody `json:"tenants"`
		}
	}
	rpc.Register(p, huma.Operation{OperationID: "listTenants", Method: http.MethodGet, Path: "/api/v1/tenants", Summary: "My tenant"}, rpc.Access{Scope: auth.ScopeTenant},
		func(ctx context.Context, _ *struct{}) (*tenantsOut, error) {
			id := auth.From(ctx)
			name, created, err := s.tenant(ctx, id.Tenant)
			if err != nil {
				return nil, err
			}
			out := &tenantsOut{}
			out.Body.Tenants = []tenantBody{{id.Tenant, name, created.UTC()}}
			return out, nil
		})
}

type tenantBody struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Created time.Time `json:"created_at"`
}

func (s *Service) sessionRoutes(p *rpc.Public) {
	type signIn struct {
		Body struct {
			Email    string `json:"email"`
			Password string `json:"password"`
		}
	}
	rpc.Register(p, huma.Operation{OperationID: "createSession", Method: http.MethodPost, Path: "/api/v1/sessions", Summary: "Sign in", DefaultStatus: http.StatusCreated}, rpc.Access{Anyone: true},
		func(ctx context.Context, in *signIn) (*sessionOut, error) {
			if err := rpc.Validate(&pb.CreateSessionRequest{Email: in.Body.Email, Password: in.Body.Password}); err != nil {
				return nil, err
			}
			x, err := s.SignIn(ctx, in.Body.Email, in.Body.Password)
			if err != nil {
				return nil, err
			}
			return showSession(x), nil
		})
	type refresh struct {
		Body struct {
			RefreshToken string `json:"refresh_token"`
		}
	}
	rpc.Register(p, huma.Operation{OperationID: "refreshSession", Method: http.MethodPost, Path: "/api/v1/sessions/refresh", Summary: "Trade a refresh token for a new pair", DefaultStatus: http.StatusCreated}, rpc.Access{Anyone: true},
		func(ctx context.Context, in *refresh) (*sessionOut, error) {
			if err := rpc.Validate(&pb.RefreshSessionRequest{RefreshToken: in.Body.RefreshToken}); err != nil {
				return nil, err
			}
			x, err := s.Refresh(ctx, in.Body.RefreshToken)
			if err != nil {
				return nil, err
			}
			return showSession(x), nil
		})
	rpc.Register(p, huma.Operation{OperationID: "endSession", Method: http.MethodDelete, Path: "/api/v1/sessions/current", Summary: "Sign out", DefaultStatus: http.StatusNoContent}, rpc.Access{Signed: true},
		func(ctx context.Context, _ *struct{}) (*struct{}, error) { return nil, s.SignOut(ctx, auth.From(ctx)) })
}

func (s *Service) keyRoutes(p *rpc.Public) {
	type create struct {
		IdempotencyKey string `header:"Idempotency-Key" doc:"the same key and body give the same answer, for a day"`
		Body           struct {
			Name      string   `json:"name"`
			Scopes    []string `json:"scopes" doc:"at most the caller's own"`
			ExpiresIn int64    `json:"expires_in,omitempty" doc:"seconds; 0: until revoked"`
			Test      bool     `json:"test,omitempty" doc:"a key for trying things out: aran_test_…"`
		}
	}
	rpc.Register(p, huma.Operation{OperationID: "createKey", Method: http.MethodPost, Path: "/api/v1/keys", Summary: "Make an API key", DefaultStatus: http.StatusCreated}, rpc.Access{Scope: auth.ScopeKeysWrite},
		func(ctx context.Context, in *create) (*keyOut, error) {
			m := &pb.CreateKeyRequest{Name: in.Body.Name, Scopes: in.Body.Scopes, ExpiresIn: in.Body.ExpiresIn, Test: in.Body.Test}
			if err := rpc.Validate(m); err != nil {
				return nil, err
			}
			once, err := rpc.CheckIdempotencyKey(in.IdempotencyKey)
			if err != nil {
				return nil, err
			}
			k, err := s.CreateKey(ctx, auth.From(ctx), NewKey{m.GetName(), m.GetScopes(), time.Duration(m.GetExpiresIn()) * time.Second, m.GetTest(), once})
			if err != nil {
				return nil, err
			}
			return &keyOut{showKey(k.Key, k.Secret)}, nil
		})
	type list struct {
		Body struct {
			Keys       []keyBody `json:"keys"`
			NextCursor string    `json:"next_cursor,omitempty"`
		}
	}
	rpc.Register(p, huma.Operation{OperationID: "listKeys", Method: http.MethodGet, Path: "/api/v1/keys", Summary: "The tenant's API keys, newest first"}, rpc.Access{Scope: auth.ScopeKeysRead},
		func(ctx context.Context, in *rpc.Page) (*list, error) {
			keys, err := s.Keys(ctx, auth.From(ctx), in.Limit+1, in.Cursor)
			if err != nil {
				return nil, err
			}
			out := &list{}
			out.Body.Keys = []keyBody{}
			for i, k := range keys {
				if i == in.Limit {
					out.Body.NextCursor = keys[i-1].ID
					break
				}
				out.Body.Keys = append(out.Body.Keys, showKey(k, ""))
			}
			return out, nil
		})
	rpc.Register(p, huma.Operation{OperationID: "getKey", Method: http.MethodGet, Path: "/api/v1/keys/{id}", Summary: "One API key"}, rpc.Access{Scope: auth.ScopeKeysRead},
		func(ctx context.Context, in *keyPath) (*keyOut, error) {
			k, err := s.Key(ctx, auth.From(ctx), in.ID)
			if err != nil {
				return nil, err
			}
			return &keyOut{showKey(k, "")}, nil
		})
	rpc.Register(p, huma.Operation{OperationID: "rotateKey", Method: http.MethodPost, Path: "/api/v1/keys/{id}/rotate", Summary: "Replace a key by one with the same rights", DefaultStatus: http.StatusCreated}, rpc.Access{Scope: auth.ScopeKeysWrite},
		func(ctx context.Context, in *keyPath) (*keyOut, error) {
			k, err := s.RotateKey(ctx, auth.From(ctx), in.ID)
			if err != nil {
				return nil, err
			}
			return &keyOut{showKey(k.Key, k.Secret)}, nil
		})
	rpc.Register(p, huma.Operation{OperationID: "revokeKey", Method: http.MethodDelete, Path: "/api/v1/keys/{id}", Summary: "End an API key at once", DefaultStatus: http.StatusNoContent}, rpc.Access{Scope: auth.ScopeKeysWrite},
		func(ctx context.Context, in *keyPath) (*struct{}, error) {
			if in.ID == adminKeyID && auth.From(ctx).Credential != adminKeyID {
				return nil, fault.New(fault.Denied, "admin_key", "The administrator's key can only be revoked with itself.")
			}
			return nil, s.RevokeKey(ctx, auth.From(ctx), in.ID)
		})
}
