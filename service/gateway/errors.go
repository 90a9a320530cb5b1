package gateway

import (
	"encoding/json"
	"net/http"
	"strings"

	"aran/platform/fault"
	"aran/platform/rpc"
)

// fail writes an error of the gateway's own: in the vendors' shapes on the model APIs, else problem+json.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	err = rpc.Ended(r.Context(), err)
	if !strings.HasPrefix(r.URL.Path, "/v1/") {
		rpc.Problem(w, r, err)
		return
	}
	f := fault.From(err)
	if f == nil || f.Kind == fault.Internal {
		f = fault.New(fault.Internal, "internal", "Something broke here; the log has the details under this request id.")
	}
	var body any
	if anthropic(r) {
		body = map[string]any{"type": "error", "error": map[string]string{"type": anthropicType(f.Kind), "message": f.Detail}, "request_id": rpc.RequestID(r.Context())}
	} else {
		body = map[string]any{"error": map[string]any{"message": f.Detail, "type": openAIType(f.Kind), "param": nil, "code": openAICode(f)}}
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", rpc.RetryAfter(f.RetryAfter))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(rpc.Status(f))
	if r.Method != http.MethodHead {
		_ = json.NewEncoder(w).Encode(body)
	}
}

func anthropic(r *http.Request) bool {
	return r.Header.Get("Anthropic-Version") != "" || strings.HasPrefix(r.URL.Path, "/v1/messages")
}

func anthropicType(k fault.Kind) string {
	switch k {
	case fault.Unauthenticated:
		return "authentication_error"
	case fault.Denied:
		return "permission_error"
	case fault.Missing:
		return "not_found_error"
	case fault.TooLarge:
		return "request_too_large"
	case fault.Exhausted:
		return "rate_limit_error"
	case fault.Unavailable, fault.Deadline:
		return "overloaded_error"
	case fault.Internal:
		return "api_error"
	default:
		return "invalid_request_error"
	}
}

func openAIType(k fault.Kind) string {
	switch k {
	case fault.Exhausted:
		return "rate_limit_exceeded"
	case fault.Unavailable, fault.Deadline, fault.Internal:
		return "server_error"
	case fault.Denied:
		return "permission_error"
	default:
		return "invalid_request_error"
	}
}

func openAICode(f *fault.Error) string {
	if f.Kind == fault.Unauthenticated {
		return "invalid_api_key"
	}
	if f.Kind == fault.Exhausted {
		return "rate_limit_exceeded"
	}
	return f.Code
}
