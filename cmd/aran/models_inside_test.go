package main

import (
	"strings"
	"testing"

	"aran/service/guard/classify"
	"aran/service/guard/injection"
	"aran/service/guard/policy"
	"aran/service/infer/heads"
	"aran/service/infer/registry"
)

// What the registry says of models that are files of the program must be true of the files.
func TestModelsInsideAreTheOnesListed(t *testing.T) {
	r, err := registry.Open("", registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	compact, err := classify.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	head, err := heads.Injection()
	if err != nil {
		t.Fatal(err)
	}
	for name, digest := range map[string]string{"guard-compact": compact.Digest(), heads.InjectionName: head.Digest()} {
		m, err := r.Model(t.Context(), name)
		if err != nil || m.Digest != digest || m.Status != registry.BuiltIn || len(m.Evaluation) == 0 || m.Provenance == nil {
			t.Errorf("%s is listed with the digest %s, status %q and %d evaluations (%v); the file's digest is %s: make train-guard", name, m.Digest, m.Status, len(m.Evaluation), err, digest)
		}
		if err := r.Verify(t.Context(), name); err != nil {
			t.Errorf("verify %s: %v", name, err)
		}
		if err := r.Pull(t.Context(), name, nil); err != nil {
			t.Errorf("pull %s, which is here: %v", name, err)
		}
	}
	m, err := r.Model(t.Context(), heads.InjectionName)
	if err != nil || m.Encoder != head.Encoder || strings.Join(m.Labels, " ") != strings.Join(head.Labels, " ") {
		t.Errorf("the head's manifest names the encoder %s and the labels %v (%v)", m.Encoder, m.Labels, err)
	}
}

func TestDefaultPolicyHasTheModelsThresholds(t *testing.T) {
	p := policy.Default().Thresholds
	if p.User.Block != injection.UserThreshold || p.Document.Block != injection.DocumentThreshold || p.Tool.Block != injection.DocumentThreshold {
		t.Errorf("the default policy blocks from %v, %v and %v; the models are calibrated for %v and %v", p.User.Block, p.Document.Block, p.Tool.Block, injection.UserThreshold, injection.DocumentThreshold)
	}
}
