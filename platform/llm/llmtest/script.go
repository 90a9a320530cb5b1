// Package llmtest holds the suite that every llm.Provider passes, and a model server for tests and
// benchmarks that speaks the OpenAI and Anthropic formats and fails as it is told.
//
// The server is a test tool: it bounds nothing and must listen on loopback only.
package llmtest

import (
	"strings"
	"time"

	"aran/platform/llm"
)

// End is how a scripted answer ends.
type End int

// The ends.
const (
	Done  End = iota // properly
	Cut              // the connection breaks
	Error            // an error event in the stream
	Hang             // nothing more comes until the client leaves
)

// Script is what the model does with one request.
type Script struct {
	Pieces    []string // of the text
	Reasoning []string // before the text
	Calls     []Call   // after the text
	Finish    llm.Finish
	Usage     llm.Usage
	End       End
	Status    int // an HTTP error instead of an answer, with the following
	ErrorType string
	ErrorCode string
	Message   string
	After     time.Duration // Retry-After
}

// Call is a tool call of the model.
type Call struct{ ID, Name, Arguments string }

// Say is a script that answers with a text, a word at a time.
func Say(text string) Script {
	return Script{Pieces: strings.SplitAfter(text, " "), Usage: llm.Usage{Input: 10, Output: strings.Count(text, " ") + 1}}
}

// Fail is a script that answers with an HTTP status.
func Fail(status int) Script {
	return Script{Status: status, ErrorType: "api_error", Message: "scripted failure"}
}

// Echo answers with the last text of the user, and cites source 1 when the request holds numbered sources.
func Echo(r llm.Request) Script {
	var last string
	cited := ""
	for at, text := range r.Texts() {
		if at.Role == llm.User {
			last = *text
		}
		if strings.Contains(*text, "[1]") {
			cited = " [1]"
		}
	}
	if len(last) > 200 {
		last = strings.ToValidUTF8(last[:200], "")
	}
	return Say("You asked: " + last + cited)
}

func (s Script) finish() llm.Finish {
	switch {
	case s.Finish != "":
		return s.Finish
	case len(s.Calls) > 0:
		return llm.ToolCalls
	default:
		return llm.Stop
	}
}
