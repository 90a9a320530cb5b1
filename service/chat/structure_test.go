package chat

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	guardv1 "aran/api/gen/aran/guard/v1"
	"aran/platform/llm/llmtest"
)

var mailTool = []object{{"type": "function", "function": object{"name": "send_email", "parameters": object{"type": "object"}}}}

func callMail() llmtest.Script {
	return llmtest.Script{Calls: []llmtest.Call{{ID: "1", Name: "send_email", Arguments: `{"to":"bob@b.org"}`}}}
}

func TestTheGuardIsToldWhereTextsComeFrom(t *testing.T) {
	b := newBench(t, withOpenAI)
	b.search.docs["docs"][0].Trust, b.search.docs["docs"][0].Source = "builtin", "pack"
	body := chatBody("", "aran", object{"collections": []string{"docs"}, "conversation": "talk 7"})
	body["messages"] = []object{
		{"role": "user", "content": "look into my mail"},
		{"role": "assistant", "content": nil, "tool_calls": []object{{"id": "c9", "type": "function", "function": object{"name": "read_mail", "arguments": "{}"}}}},
		{"role": "tool", "tool_call_id": "c9", "content": "two new letters"},
		{"role": "user", "content": "What does the audit log hold?"},
	}
	if r := b.ask(body); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.raw)
	}
	want := map[guardv1.Origin]string{guardv1.Origin_ORIGIN_USER: "", guardv1.Origin_ORIGIN_TOOL: "tool:read_mail", guardv1.Origin_ORIGIN_DOCUMENT: "builtin:docs/d1"}
	for _, s := range b.guard.scans {
		if s.GetConversation() != "talk 7" || len(s.GetCollections()) != 1 {
			t.Errorf("scan %v", s)
		}
		if first := strings.Join(append(s.GetSources(), "")[:1], ""); first != want[s.GetOrigin()] {
			t.Errorf("%s: sources %q", s.GetOrigin(), s.GetSources())
		}
		delete(want, s.GetOrigin())
	}
	if len(want) != 0 {
		t.Errorf("not scanned: %v", want)
	}
}

// TestAToolThatADocumentWantsIsRefused: neither the call nor a part of it reaches the client.
func TestAToolThatADocumentWantsIsRefused(t *testing.T) {
	for kind, ask := range map[string]func(*bench, object) reply{"whole": (*bench).ask, "streamed": (*bench).streamed} {
		b := newBench(t, withOpenAI)
		b.openai.Next(callMail())
		r := ask(b, chatBody("What does the audit log hold?", "tools", mailTool, "aran", docs))
		if r.finish != "content_filter" || strings.Contains(r.raw, "bob@") || strings.Contains(r.raw, `"send_email"`) {
			t.Errorf("%s: finish %q\n%s", kind, r.finish, r.raw)
		}
		if r.ext.Guard.Verdict != verdictBlock || r.ext.Guard.Findings[len(r.ext.Guard.Findings)-1].Where != whereTool {
			t.Errorf("%s: guard %+v", kind, r.ext.Guard)
		}
		if e := b.only(TypeBlocked); e.Data["where"] != whereTool {
			t.Errorf("%s: event %+v", kind, e)
		}
		if n := len(b.guard.tools); n != 1 || b.guard.tools[0].GetArguments() != `{"to":"bob@b.org"}` {
			t.Errorf("%s: %d calls were judged: %v", kind, n, b.guard.tools)
		}
	}
}

func TestAToolThatTheUserWantsIsPassedOn(t *testing.T) {
	for kind, ask := range map[string]func(*bench, object) reply{"whole": (*bench).ask, "streamed": (*bench).streamed} {
		b := newBench(t, withOpenAI)
		s := callMail()
		s.Pieces = []string{"I ", "write now."}
		b.openai.Next(s)
		r := ask(b, chatBody("mail bob@b.org", "tools", mailTool))
		if r.finish != "tool_calls" || !strings.Contains(r.raw, `send_email`) || r.text != "I write now." || len(b.guard.tools) != 1 {
			t.Errorf("%s: finish %q, %d judged\n%s", kind, r.finish, len(b.guard.tools), r.raw)
		}
	}
	// What was read in an earlier request of the conversation counts.
	b := newBench(t, withOpenAI)
	talk := object{"collections": []string{"docs"}, "conversation": "t"}
	b.ask(chatBody("What does the audit log hold?", "aran", talk))
	b.openai.Next(callMail())
	if r := b.ask(chatBody("mail bob@b.org", "tools", mailTool, "aran", object{"conversation": "t"})); r.finish != "content_filter" {
		t.Errorf("later in the conversation: %q\n%s", r.finish, r.raw)
	}
}

func TestAReleasedPassageIsUsedAndMarked(t *testing.T) {
	b := newBench(t, withOpenAI)
	h := passage("d9", "c9", "Course", "An audit course quotes: "+attack+" as an example.")
	h.Trust = trustReleased
	b.search.docs["docs"] = append(b.search.docs["docs"], h)
	r := b.ask(chatBody("What is the audit course?", "aran", docs))
	sent := string(b.openai.Requests()[0].Body)
	if !strings.Contains(sent, "trust: released") || !strings.Contains(sent, "quotes:") {
		t.Errorf("sent %s", sent)
	}
	if r.ext.Guard.Verdict != verdictFlag {
		t.Errorf("guard %+v", r.ext.Guard)
	}
}

func TestProvidersSeePseudonyms(t *testing.T) {
	for kind, ask := range map[string]func(*bench, object) reply{"whole": (*bench).ask, "streamed": (*bench).streamed} {
		b := newBench(t, withOpenAI)
		b.guard.hides = true
		b.search.docs["docs"] = append(b.search.docs["docs"], passage("d3", "c3", "Staff of Meena", "The audit is led by Meena herself."))
		b.openai.Next(llmtest.Script{Pieces: []string{"It is Per", "son_", "1 who leads ", "the audit [3]."}})
		body := chatBody("", "aran", docs)
		body["messages"] = []object{
			{"role": "system", "content": "You work for Meena."},
			{"role": "user", "content": "Who is Meena?"},
			{"role": "assistant", "content": "Meena is a person."},
			{"role": "user", "content": "And what of the audit does Meena lead?"},
		}
		r := ask(b, body)
		sent := string(b.openai.Requests()[0].Body)
		if strings.Contains(sent, "Meena") || strings.Count(sent, pseudonym) < 5 {
			t.Errorf("%s: sent %s", kind, sent)
		}
		if r.text != "It is Meena who leads the audit [3]." {
			t.Errorf("%s: %q", kind, r.text)
		}
		if len(r.ext.Citations) != 1 || r.ext.Citations[0].Title != "Staff of Meena" {
			t.Errorf("%s: citations %+v", kind, r.ext.Citations)
		}
		if q := b.search.queries[0].GetQuery(); !strings.Contains(q, "Meena") {
			t.Errorf("%s: searched for %q", kind, q)
		}
		if e := b.only(TypeAnswered); e.Data["question_digest"] != digest("And what of the audit does Meena lead?") || e.Data["answer_digest"] != digest(r.text) {
			t.Errorf("%s: digests are not of what was asked and shown: %+v", kind, e.Data)
		}
	}
}

func TestTheLocalModelSeesWhatIsThere(t *testing.T) {
	b := newBench(t)
	b.guard.hides = true
	b.ask(chatBody("Who is Meena?"))
	if said := b.infer.asked[0].String(); !strings.Contains(said, "Meena") {
		t.Errorf("the local model was asked %s", said)
	}
}

func TestWithoutPseudonymsNoProviderIsAsked(t *testing.T) {
	b := newBench(t, withOpenAI)
	b.s.d.Guard = &halfGuard{b.guard}
	r := b.ask(chatBody("What does the audit log hold?"))
	if r.ext.Rung != Extractive || len(b.openai.Requests()) != 0 {
		t.Errorf("rung %q, %d requests", r.ext.Rung, len(b.openai.Requests()))
	}
}

func TestTheOutputCheckKnowsWhatItNeeds(t *testing.T) {
	b := newBench(t, withOpenAI)
	schema := object{"type": "object"}
	format := object{"type": "json_schema", "json_schema": object{"name": "x", "schema": schema}}
	b.openai.Next(llmtest.Script{Pieces: []string{`{"a":`, `"b c d"}`}})
	if r := b.ask(chatBody("audit?", "aran", docs, "response_format", format)); r.text != `{"a":"b c d"}` {
		t.Errorf("%q\n%s", r.text, r.raw)
	}
	last := b.guard.checks[len(b.guard.checks)-1]
	if !json.Valid([]byte(last.GetSchema())) || last.GetText() != `{"a":"b c d"}` || !last.GetFinal() || len(last.GetInstructions()) != 1 || len(last.GetCollections()) != 1 {
		t.Errorf("the check was asked %v", last)
	}
	b.openai.Next(llmtest.Say("no JSON at all"))
	if r := b.ask(chatBody("audit?", "aran", docs, "response_format", format)); r.finish != "content_filter" || r.text != "" {
		t.Errorf("an answer that does not meet its schema: %q %q", r.finish, r.text)
	}
	b = newBench(t, withOpenAI)
	b.openai.Next(llmtest.Script{Pieces: []string{"one two ", "three four ", "five"}})
	b.streamed(chatBody("hi"))
	if last := b.guard.checks[len(b.guard.checks)-1]; !strings.HasSuffix(last.GetBefore()+last.GetText(), "four five") || last.GetBefore() == "" {
		t.Errorf("before %q, text %q", last.GetBefore(), last.GetText())
	}
}

func TestNamesOfConversations(t *testing.T) {
	for name, c := range map[string]struct {
		conversation any
		status       int
	}{
		"a name":       {"talk 7/ä", 200},
		"as long":      {strings.Repeat("அ", 100), 200},
		"too long":     {strings.Repeat("a", 101), 400},
		"empty":        {"", 400},
		"a number":     {7, 400},
		"control code": {"a\nb", 400},
	} {
		b := newBench(t, withOpenAI)
		if r := b.ask(chatBody("hi", "aran", object{"conversation": c.conversation})); r.status != c.status {
			t.Errorf("%s: %d %s", name, r.status, r.raw)
		}
	}
}
