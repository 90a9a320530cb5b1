package user

import (
	"context"
	"net/http"

	pb "aran/api/gen/aran/user/v1"
	"aran/api/gen/aran/user/v1/userv1connect"
	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
)

// Internal serves the other services. Its methods carry no identity: they are how one is got.
func (s *Service) Internal() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(userv1connect.NewUserServiceHandler(handler{s}, s.server.HandlerOptions(
		userv1connect.UserServiceAuthenticateProcedure, userv1connect.UserServiceExchangeProcedure, userv1connect.UserServiceKeysProcedure,
	)...))
	return s.server.Internal(mux)
}

type handler struct{ s *Service }

func (h handler) Authenticate(ctx context.Context, r *pb.AuthenticateRequest) (*pb.TokenResponse, error) {
	if rpc.Peer(ctx) != rpc.Gateway {
		return nil, fault.New(fault.Denied, "caller_refused", "Only the gateway turns credentials into identities.")
	}
	return answer(h.s.Authenticate(ctx, r.GetCredential(), r.GetAudience(), rpc.Peer(ctx)))
}

func (h handler) Exchange(ctx context.Context, r *pb.ExchangeRequest) (*pb.TokenResponse, error) {
	if g := r.GetGrant(); g != nil {
		return answer(h.s.ExchangeGrant(ctx, auth.Grant{Tenant: g.GetTenant(), Subject: g.GetSubject(), Scopes: g.GetScopes()}, r.GetAudience(), rpc.Peer(ctx)))
	}
	return answer(h.s.Exchange(ctx, r.GetSubjectToken(), r.GetAudience(), rpc.Peer(ctx)))
}

func (h handler) Keys(context.Context, *pb.KeysRequest) (*pb.KeysResponse, error) {
	b, err := h.s.issuer.JWKS()
	if err != nil {
		return nil, err
	}
	return &pb.KeysResponse{Jwks: string(b)}, nil
}

func answer(i Issued, err error) (*pb.TokenResponse, error) {
	if err != nil {
		return nil, err
	}
	return &pb.TokenResponse{
		Token: i.Token, ExpiresIn: int64(i.Expires.Seconds()), Tenant: i.Tenant, Subject: i.Subject, Scopes: i.Scopes, Tier: i.Tier, CredentialId: i.Credential,
	}, nil
}
