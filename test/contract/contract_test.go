// Package contract holds every service's contract against the chain that stands before it: what the rules in the
// proto files say is said alike by REST and RPC, and no method is reached past the checks.
package contract

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	auditv1 "aran/api/gen/aran/audit/v1"
	guardv1 "aran/api/gen/aran/guard/v1"
	"aran/api/gen/aran/guard/v1/guardv1connect"
	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/api/gen/aran/infer/v1/inferv1connect"
	searchv1 "aran/api/gen/aran/search/v1"
	"aran/api/gen/aran/search/v1/searchv1connect"
	userv1 "aran/api/gen/aran/user/v1"
	"aran/api/gen/aran/user/v1/userv1connect"
	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/rpc/rpctest"
)

// TestRESTAndRPCGiveTheSameViolations holds what a REST handler answers to a message against what the chain before
// a method answers to the same.
func TestRESTAndRPCGiveTheSameViolations(t *testing.T) {
	badName := "Not A Name"
	for _, c := range []struct {
		name  string
		broke []fault.Field
		want  []string // paths
	}{
		{"embed: no texts", violations(t, &inferv1.EmbedRequest{Model: strings.Repeat("m", 101)}), []string{"model", "texts"}},
		{"embed: a long text", violations(t, &inferv1.EmbedRequest{Texts: []string{"fine", strings.Repeat("x", 100001)}}), []string{"texts[1]"}},
		{"generate: nested", violations(t, &inferv1.GenerateRequest{
			Model: "m", Messages: []*inferv1.Message{{Role: "user"}, {Role: "robot"}}, MaxTokens: -1, Temperature: new(3.0), TopP: new(0.0), Stop: []string{""},
		}), []string{"messages[1].role", "max_tokens", "temperature", "top_p", "stop[0]"}},
		{"retrieve: names, sizes and an enum", violations(t, &searchv1.RetrieveRequest{Collections: []string{"ok", badName}, Limit: 101, Mode: 99}), []string{"collections[1]", "query", "limit", "mode"}},
		{"collection: a name", violations(t, &searchv1.CreateCollectionRequest{Name: badName}), []string{"name"}},
		{"document: keys and values of a map", violations(t, &searchv1.PutDocumentRequest{
			Collection: "c", Text: "t", ContentType: "text/html", Access: []string{"everyone"}, Metadata: map[string]string{"": "v"},
		}), []string{"content_type", `metadata[""]`, "access[0]"}},
		{"scan: an origin that is not known", violations(t, &guardv1.ScanRequest{Texts: []string{"x"}, Origin: 99}), []string{"origin"}},
		{"output: a short mark", violations(t, &guardv1.CheckOutputRequest{Canaries: []string{"short"}}), []string{"canaries[0]"}},
		{"exchange: a choice that is not made", violations(t, &userv1.ExchangeRequest{Audience: "UPPER"}), []string{"from", "audience"}},
		{"page: a limit", violations(t, &auditv1.ListEventsRequest{Limit: 501}), []string{"limit"}},
	} {
		var got []string
		for _, f := range c.broke {
			got = append(got, f.Path)
			if f.Rule == "" || f.Message == "" {
				t.Errorf("%s: a violation says too little: %+v", c.name, f)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: broken are %q, want %q", c.name, got, c.want)
		}
	}
}

// violations sends a message both ways and returns what is wrong with it.
func violations[T any, M interface {
	*T
	proto.Message
}](t *testing.T, m M,
) []fault.Field {
	t.Helper()
	name := string(m.ProtoReflect().Descriptor().FullName())

	err := rpc.Validate(m)
	w := httptest.NewRecorder()
	rpc.Problem(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody), err)
	var rest struct {
		Code   string        `json:"code"`
		Errors []fault.Field `json:"errors"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &rest); err != nil || w.Code != http.StatusBadRequest {
		t.Errorf("%s over REST: %d %s %v", name, w.Code, w.Body, err)
	}

	a := rpctest.NewAuthority(t)
	const procedure = "/test.v1.TestService/Take"
	h := connect.NewUnaryHandlerSimple(procedure, func(_ context.Context, _ *T) (*emptypb.Empty, error) {
		t.Errorf("%s reached the handler", name)
		return &emptypb.Empty{}, nil
	}, a.Server("test", "chat").HandlerOptions()...)
	src := a.Source("chat", auth.Identity{Tenant: "t1", Subject: "user:meena"})
	c := connect.NewClient[T, emptypb.Empty](&http.Client{Transport: rpc.InProcess("chat", h)}, "http://test"+procedure, rpc.ClientOptions("test", src)...)
	_, err = c.CallUnary(t.Context(), connect.NewRequest((*T)(m)))
	f := fault.From(err)
	if f == nil || f.Kind != fault.Invalid || f.Code != rest.Code || !slices.Equal(f.Fields, rest.Errors) {
		t.Errorf("%s: RPC says %#v, REST says %+v", name, f, rest)
	}
	return rest.Errors
}

// everyMethod is each of our services behind its chain, with nothing built.
func everyMethod(a *rpctest.Authority) http.Handler {
	opts := a.Server("test", "chat").HandlerOptions()
	mux := http.NewServeMux()
	mux.Handle(guardv1connect.NewGuardServiceHandler(guardv1connect.UnimplementedGuardServiceHandler{}, opts...))
	mux.Handle(inferv1connect.NewInferServiceHandler(inferv1connect.UnimplementedInferServiceHandler{}, opts...))
	mux.Handle(searchv1connect.NewSearchServiceHandler(searchv1connect.UnimplementedSearchServiceHandler{}, opts...))
	mux.Handle(userv1connect.NewUserServiceHandler(userv1connect.UnimplementedUserServiceHandler{}, opts...))
	return mux
}

// callEmpty sends the empty message, which has the same bytes whatever its type, and returns the fault that comes back.
func callEmpty(t *testing.T, m protoreflect.MethodDescriptor, rt http.RoundTripper, src auth.Source) *fault.Error {
	t.Helper()
	c := connect.NewClient[emptypb.Empty, emptypb.Empty](&http.Client{Transport: rt}, "http://test"+procedure(m), rpc.ClientOptions("test", src)...)
	var err error
	if m.IsStreamingServer() {
		var s *connect.ServerStreamForClient[emptypb.Empty]
		if s, err = c.CallServerStream(t.Context(), connect.NewRequest(&emptypb.Empty{})); err == nil {
			s.Receive()
			err = s.Err()
			_ = s.Close()
		}
	} else {
		_, err = c.CallUnary(t.Context(), connect.NewRequest(&emptypb.Empty{}))
	}
	f := fault.From(err)
	if f == nil {
		t.Fatalf("%s gives %v", procedure(m), err)
	}
	return f
}

func procedure(m protoreflect.MethodDescriptor) string {
	return "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
}

// TestEveryMethodChecksItsMessage sends the empty message to each method of each service: what is broken in it the
// chain tells as Validate does, and what is not broken reaches the handler.
func TestEveryMethodChecksItsMessage(t *testing.T) {
	a := rpctest.NewAuthority(t)
	rt, src := rpc.InProcess("chat", everyMethod(a)), a.Source("chat", auth.Identity{Tenant: "t1", Subject: "user:meena"})
	var refused, taken int
	for m := range methods() {
		in, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
		if err != nil {
			t.Fatal(err)
		}
		got, want := callEmpty(t, m, rt, src), fault.From(rpc.Validate(in.New().Interface()))
		if want == nil {
			if taken++; got.Kind != fault.Unsupported {
				t.Errorf("%s: an empty message breaks no rule and gets %v", procedure(m), got)
			}
			continue
		}
		if refused++; got.Kind != want.Kind || got.Code != want.Code || !slices.Equal(got.Fields, want.Fields) {
			t.Errorf("%s says %+v, the rules say %+v", procedure(m), got.Fields, want.Fields)
		}
	}
	if refused < 5 || taken == 0 {
		t.Errorf("only %d methods refuse an empty message and %d take one: are these all?", refused, taken)
	}
}

// TestEveryMethodChecksItsCaller calls each method as a service that is not listed, and as nobody.
func TestEveryMethodChecksItsCaller(t *testing.T) {
	a := rpctest.NewAuthority(t)
	h, id := everyMethod(a), auth.Identity{Tenant: "t1", Subject: "user:meena"}
	var n int
	for m := range methods() {
		n++
		if f := callEmpty(t, m, rpc.InProcess("stranger", h), a.Source("stranger", id)); f.Code != "caller_refused" {
			t.Errorf("%s: a service that is not listed gets %v", procedure(m), f)
		}
		if f := callEmpty(t, m, rpc.InProcess("chat", h), nil); f.Code != "no_identity" {
			t.Errorf("%s: a call without an identity gets %v", procedure(m), f)
		}
		if f := callEmpty(t, m, rpc.InProcess("chat", h), a.Source("stranger", id)); f.Kind != fault.Unauthenticated && f.Kind != fault.Denied {
			t.Errorf("%s: a token of another caller gets %v", procedure(m), f)
		}
	}
	if n < 9 {
		t.Errorf("%d methods: are these all?", n)
	}
}

// methods are those of our services that are linked in.
func methods() iter.Seq[protoreflect.MethodDescriptor] {
	return func(yield func(protoreflect.MethodDescriptor) bool) {
		protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
			if !strings.HasPrefix(string(f.Package()), "aran.") {
				return true
			}
			for i := range f.Services().Len() {
				of := f.Services().Get(i).Methods()
				for j := range of.Len() {
					if !yield(of.Get(j)) {
						return false
					}
				}
			}
			return true
		})
	}
}
