package chat

import (
	"testing"

	"aran/platform/llm"
	"aran/platform/llm/llmtest"
)

func TestLocalIsAProvider(t *testing.T) {
	llmtest.Run(t, func(t *testing.T, s llmtest.Script) llm.Provider {
		f := &fakeInfer{scripts: []llmtest.Script{s}}
		return newLocal(Default(), f.client(t))
	})
}

func TestLocalGivesUpOnASilentModel(t *testing.T) {
	cfg := Default()
	quickly(nil, &cfg)
	for name, s := range map[string]llmtest.Script{
		"from the start":  {End: llmtest.Hang},
		"after one piece": {Pieces: []string{"one "}, End: llmtest.Hang},
	} {
		f := &fakeInfer{scripts: []llmtest.Script{s}}
		st, err := newLocal(cfg, f.client(t)).Stream(t.Context(), llmtest.Ask("hello"))
		if err == nil {
			defer func() { _ = st.Close() }()
			_, _, err = llmtest.Read(st)
		}
		if code(err) != "model_timeout" {
			t.Errorf("%s: %v, want model_timeout", name, err)
		}
	}
}
