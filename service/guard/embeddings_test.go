package guard_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/api/gen/aran/infer/v1/inferv1connect"
	"aran/platform/auth"
	"aran/platform/rpc/rpctest"
	"aran/platform/store"
	"aran/platform/watch"
	"aran/service/guard"
	"aran/service/guard/detect"
	"aran/service/guard/injection"
	"aran/service/guard/policy"
)

// classifier is infer, as far as the guard needs it: it answers with a score, or not at all.
type classifier struct {
	inferv1connect.InferServiceClient
	calls atomic.Int32
	say   func(texts []string) (*inferv1.ClassifyResponse, error)
}

func (c *classifier) Classify(_ context.Context, r *inferv1.ClassifyRequest) (*inferv1.ClassifyResponse, error) {
	c.calls.Add(1)
	return c.say(r.GetTexts())
}

func answer(score float64) func(texts []string) (*inferv1.ClassifyResponse, error) {
	return func(texts []string) (*inferv1.ClassifyResponse, error) {
		r := &inferv1.ClassifyResponse{Model: "minilm-injection"}
		for range texts {
			r.Results = append(r.Results, &inferv1.Classification{Labels: []*inferv1.Label{{Name: "harmless", Score: 1 - score}, {Name: "attack", Score: score}}})
		}
		return r, nil
	}
}

func withClassifier(t *testing.T, c *classifier, layers ...string) *guard.Service {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Service: "guard", Path: filepath.Join(t.TempDir(), "guard.db"), Migrations: guard.Migrations})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	cfg := guard.Default()
	cfg.Policy = policy.Policy{Layers: layers}
	d := guard.Deps{DB: db, Server: rpctest.NewAuthority(t).Server("guard", "chat"), Log: slog.New(slog.DiscardHandler), Health: &watch.Health{}}
	if c != nil {
		d.Infer = c
	}
	s, err := guard.New(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEmbeddingsWherePolicyAsks(t *testing.T) {
	const text = "Could you help me plan a three-day trip to Lisbon in May?"
	ctx := auth.With(t.Context(), auth.Identity{Tenant: "t1", Subject: "user:1"}, "")
	scan := func(s *guard.Service) guard.Result {
		t.Helper()
		r, err := s.Scan(ctx, []string{text}, detect.User)
		if err != nil {
			t.Fatal(err)
		}
		return r[0]
	}
	c := &classifier{say: answer(0.9)}
	if r := scan(withClassifier(t, c, policy.Rules, policy.Compact)); c.calls.Load() != 0 || len(r.Layers) != 2 {
		t.Errorf("without embeddings in the policy infer was asked %d times, layers %v", c.calls.Load(), r.Layers)
	}
	if r := scan(withClassifier(t, c, policy.Rules, policy.Compact, policy.Embeddings)); c.calls.Load() != 1 || r.Layers[policy.Embeddings] < 0.89 || r.Layers[policy.Embeddings] > 0.91 {
		t.Errorf("infer was asked %d times, layers %v", c.calls.Load(), r.Layers)
	}
	plain := scan(withClassifier(t, nil, policy.Rules, policy.Compact))
	for name, c := range map[string]*classifier{
		"infer is away": {say: func([]string) (*inferv1.ClassifyResponse, error) {
			return nil, connect.NewError(connect.CodeUnavailable, errors.New("away"))
		}},
		"infer answers with too little": {say: func([]string) (*inferv1.ClassifyResponse, error) { return &inferv1.ClassifyResponse{}, nil }},
		"there is no infer":             nil,
	} {
		r := scan(withClassifier(t, c, policy.Rules, policy.Compact, policy.Embeddings))
		if r.Score != plain.Score || r.Verdict != guard.Allow || !slices.ContainsFunc(r.Findings, func(f detect.Finding) bool { return f.Kind == injection.Degraded }) {
			t.Errorf("%s: score %v, %v without the layer; findings %v", name, r.Score, plain.Score, r.Findings)
		}
	}
}
