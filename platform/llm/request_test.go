package llm

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"aran/platform/fault"
)

var everything = chatStyle{maxTokensKey: "max_tokens", sampling: true}

func tree(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return v
}

// TestSameFormatLosesNothing sends what real clients send through decoding and encoding: the same comes out,
// but for what a provider always gets (stream, usage).
func TestSameFormatLosesNothing(t *testing.T) {
	files, err := filepath.Glob("testdata/same/*.json")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			in, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			var out []byte
			if strings.Contains(f, "openai") {
				r, err := DecodeChat(in)
				if err != nil {
					t.Fatal(err)
				}
				if out, err = encodeChat(&r, chatStyle{}); err != nil {
					t.Fatal(err)
				}
			} else {
				r, err := DecodeMessages(in)
				if err != nil {
					t.Fatal(err)
				}
				if out, err = encodeMessages(&r, 1); err != nil {
					t.Fatal(err)
				}
			}
			if want, got := tree(t, in), tree(t, out); !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%s\nwant\n%s", out, in)
			}
		})
	}
}

func TestTranslationGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/translate/*.in.json")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			in, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			var out []byte
			if strings.Contains(f, "openai") {
				r, err := DecodeChat(in)
				if err != nil {
					t.Fatal(err)
				}
				r.Instructions = "Ours."
				if out, err = encodeMessages(&r, 4096); err != nil {
					t.Fatal(err)
				}
			} else {
				r, err := DecodeMessages(in)
				if err != nil {
					t.Fatal(err)
				}
				r.Instructions = "Ours."
				if out, err = encodeChat(&r, everything); err != nil {
					t.Fatal(err)
				}
			}
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, out, "", "  "); err != nil {
				t.Fatal(err)
			}
			golden(t, strings.Replace(f, ".in.json", ".want.json", 1), pretty.Bytes())
		})
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, append(got, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.TrimSpace(want), bytes.TrimSpace(got)) {
		t.Errorf("%s: got\n%s", file, got)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	chat := func(s string) string { return `{"model":"m","messages":[{"role":"user","content":"x"}]` + s + `}` }
	for _, c := range []struct {
		name, body, field string
		decode            func([]byte) (Request, error)
	}{
		{"not JSON", `{`, "", DecodeChat},
		{"an array", `[]`, "", DecodeChat},
		{"null", `null`, "", DecodeMessages},
		{"two values", `{} {}`, "", DecodeChat},
		{"no model", `{"messages":[{"role":"user","content":"x"}]}`, "model", DecodeChat},
		{"the model under another spelling", `{"Model":"m","messages":[{"role":"user","content":"x"}]}`, "model", DecodeChat},
		{"no messages", `{"model":"m"}`, "messages", DecodeChat},
		{"an unknown role", `{"model":"m","messages":[{"role":"king","content":"x"}]}`, "messages.0.role", DecodeChat},
		{"content of a wrong type", `{"model":"m","messages":[{"role":"user","content":7}]}`, "messages.0.content", DecodeChat},
		{"several answers", chat(`,"n":2`), "n", DecodeChat},
		{"log probabilities", chat(`,"logprobs":true`), "logprobs", DecodeChat},
		{"sound", chat(`,"modalities":["text","audio"]`), "modalities", DecodeChat},
		{"too hot", chat(`,"temperature":3`), "temperature", DecodeChat},
		{"max_tokens of a wrong type", chat(`,"max_tokens":"many"`), "max_tokens", DecodeChat},
		{"stop of a wrong type", chat(`,"stop":{}`), "stop", DecodeChat},
		{"max_tokens is missing", chat(``), "max_tokens", DecodeMessages},
		{"a tool role", `{"model":"m","max_tokens":1,"messages":[{"role":"tool","content":"x"}]}`, "messages.0.role", DecodeMessages},
		{"a block that is no object", `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[1]}]}`, "messages.0.content.0", DecodeMessages},
		{"too many messages", `{"model":"m","messages":[` + strings.Repeat(`{},`, 2000) + `{}]}`, "messages", DecodeChat},
	} {
		_, err := c.decode([]byte(c.body))
		f := fault.From(err)
		if f == nil || f.Kind != fault.Invalid {
			t.Errorf("%s: error %v, want invalid", c.name, err)
			continue
		}
		if c.field != "" && (len(f.Fields) == 0 || f.Fields[0].Path != c.field) {
			t.Errorf("%s: %v names %v, want %s", c.name, err, f.Fields, c.field)
		}
	}
}

func TestTextsAreAllThatAScannerMustSee(t *testing.T) {
	r, err := DecodeMessages([]byte(`{"model":"m","max_tokens":1,"messages":[
		{"role":"user","content":"a"},
		{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{}}]},
		{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"b"}]},{"type":"text","text":"c"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for at, text := range r.Texts() {
		got = append(got, string(at.Role)+":"+*text)
		*text = "seen"
	}
	if want := []string{"user:a", "tool:b", "user:c"}; !reflect.DeepEqual(got, want) {
		t.Errorf("texts %v, want %v", got, want)
	}
	out, err := encodeMessages(&r, 1)
	if err != nil || strings.Count(string(out), "seen") != 3 {
		t.Errorf("replaced texts are not what is sent: %s, %v", out, err)
	}
}

func TestUnreadNamesWhatNobodyScanned(t *testing.T) {
	r, err := DecodeChat([]byte(`{"model":"m","web_search_options":{},"functions":null,"tools":[{"type":"code"}],
		"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}},{"type":"text","text":"y"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.Unread(), []string{"image_url", "code", "web_search_options"}; !reflect.DeepEqual(got, want) {
		t.Errorf("unread %v, want %v", got, want)
	}
}

func TestCloneIsApart(t *testing.T) {
	r, err := DecodeChat([]byte(`{"model":"m","messages":[{"role":"tool","tool_call_id":"1","content":"a"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c := r.Clone()
	for _, text := range c.Texts() {
		*text = "b"
	}
	for _, text := range r.Texts() {
		if *text != "a" {
			t.Errorf("the original became %q", *text)
		}
	}
}
