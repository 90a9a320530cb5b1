package chat

import (
	"context"
	"errors"
	"strings"

	guardv1 "aran/api/gen/aran/guard/v1"
	"aran/platform/fault"
	"aran/platform/llm"
)

// errLeak says that the output check stopped an answer.
var errLeak = errors.New("the answer was stopped by policy")

// errGuardAway says that an answer could not be checked. It is not shown unchecked.
var errGuardAway = errors.New("the guard cannot be asked")

// Piece is a checked piece of an answer. At most one field is set.
type Piece struct {
	Text      string
	Reasoning string
	Signature string
	Call      *llm.CallDelta
}

func (p Piece) empty() bool {
	return p.Text == "" && p.Reasoning == "" && p.Signature == "" && p.Call == nil
}

// channel is one of the texts that make up an answer: each is checked as a whole of its own.
type channel struct {
	kind string // text, reasoning, call
	call int
}

// checker passes what a model says through the guard, piece by piece. What the guard holds back is sent to it
// again with what follows.
type checker struct {
	s            *Service
	prompts      []string // the client's own instructions
	canaries     []string
	report       *GuardReport
	collections  []string
	instructions []string  // that must not be repeated
	conversation string    // whose pseudonyms are put back; empty: none
	tainted      string    // whose reading limits tools; empty: none
	schema       string    // of the whole text; empty: none
	marks        *unmarker // nil: there are none
	calls        *calls    // nil: calls pass as they come

	at      channel
	hold    string
	before  string // the end of what was released in this channel
	changed bool   // something was altered in this channel
}

const (
	maxBefore = 4096    // bytes, as in guard.CheckOutputRequest
	maxWhole  = 1 << 20 // bytes of an answer that is held for its schema
)

// push takes what the model said and returns what may be shown, tool calls judged.
func (c *checker) push(ctx context.Context, e llm.Event) ([]Piece, error) {
	out, err := c.take(ctx, e)
	if err != nil || c.calls == nil {
		return out, err
	}
	return c.calls.take(out), nil
}

// end returns what is left when the model has said everything.
func (c *checker) end(ctx context.Context) ([]Piece, error) {
	out, err := c.flush(ctx)
	if err != nil || c.calls == nil {
		return out, err
	}
	out = c.calls.take(out)
	rest, err := c.calls.judge(ctx, c)
	return append(out, rest...), err
}

// take is push without the calls. When the model turns to another channel, what was held back of the one before comes first.
func (c *checker) take(ctx context.Context, e llm.Event) ([]Piece, error) {
	var out []Piece
	at, text := channelOf(e)
	if at.kind == "" {
		return nil, nil
	}
	if at != c.at {
		rest, err := c.flush(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, rest...)
		c.at, c.changed, c.before = at, false, ""
	}
	if e.Signature != "" {
		rest, err := c.flush(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, rest...)
		if !c.changed { // it proves the text as it was
			out = append(out, Piece{Signature: e.Signature})
		}
		return out, nil
	}
	if e.Call != nil && (e.Call.ID != "" || e.Call.Name != "") {
		out = append(out, Piece{Call: &llm.CallDelta{Index: e.Call.Index, ID: e.Call.ID, Name: e.Call.Name}})
	}
	if c.marks != nil && text != "" {
		said := c.marks.held + text
		clean := c.marks.push(text, false)
		c.changed = c.changed || clean+c.marks.held != said
		text = clean
	}
	if text == "" {
		return out, nil
	}
	if c.schema != "" && at.kind == "text" && len(c.hold)+len(text) <= maxWhole {
		c.hold += text // judged as a whole
		return out, nil
	}
	shown, err := c.check(ctx, c.hold+text, false)
	if err != nil {
		return nil, err
	}
	return append(out, c.piece(shown)...), nil
}

// flush ends the current channel: nothing is held back any more.
func (c *checker) flush(ctx context.Context) ([]Piece, error) {
	c.hold += c.marks.push("", true)
	if c.hold == "" {
		return nil, nil
	}
	shown, err := c.check(ctx, c.hold, true)
	if err != nil {
		return nil, err
	}
	return c.piece(shown), nil
}

func (c *checker) piece(shown string) []Piece {
	if shown == "" {
		return nil
	}
	switch c.at.kind {
	case "reasoning":
		return []Piece{{Reasoning: shown}}
	case "call":
		return []Piece{{Call: &llm.CallDelta{Index: c.at.call, Arguments: shown}}}
	default:
		return []Piece{{Text: shown}}
	}
}

func channelOf(e llm.Event) (channel, string) {
	switch {
	case e.Text != "":
		return channel{kind: "text"}, e.Text
	case e.Reasoning != "":
		return channel{kind: "reasoning"}, e.Reasoning
	case e.Signature != "":
		return channel{kind: "reasoning"}, ""
	case e.Call != nil:
		return channel{kind: "call", call: e.Call.Index}, e.Call.Arguments
	default:
		return channel{}, ""
	}
}

// check asks the guard about a text and keeps what it holds back.
func (c *checker) check(ctx context.Context, text string, final bool) (string, error) { //nolint:revive // a fact about the text
	inner, cancel := context.WithTimeout(ctx, c.s.cfg.GuardTimeout)
	defer cancel()
	req := &guardv1.CheckOutputRequest{
		Text: text, Canaries: c.canaries, Final: final, Collections: c.collections, Conversation: c.conversation, Before: c.before, Instructions: c.instructions, Prompts: c.prompts,
		Part: partOf(c.at),
	}
	if final && c.at.kind == "text" && c.before == "" {
		req.Schema = c.schema
	}
	res, err := c.s.d.Guard.CheckOutput(inner, req)
	if err != nil {
		if ctx.Err() != nil {
			return "", asFault(ctx, err)
		}
		if k := fault.KindOf(err); k == fault.Invalid || k == fault.TooLarge {
			return "", err // the guard is there, and refuses the check
		}
		return "", errors.Join(errGuardAway, err)
	}
	verdict := verdictOf(res.GetVerdict())
	c.report.add(verdict, findingsOf(res.GetFindings(), whereOutput)...)
	if verdict == verdictBlock {
		return "", errLeak
	}
	if res.GetRelease()+res.GetHold() != text {
		c.changed = true
	}
	c.hold = res.GetHold()
	c.before = tail(c.before+res.GetRelease(), maxBefore)
	return res.GetRelease(), nil
}

// partOf is guard's word for a channel.
func partOf(at channel) guardv1.AnswerPart {
	switch at.kind {
	case "reasoning":
		return guardv1.AnswerPart_ANSWER_PART_REASONING
	case "call":
		return guardv1.AnswerPart_ANSWER_PART_CALL
	default:
		return guardv1.AnswerPart_ANSWER_PART_TEXT
	}
}

// tail is the end of a text, from the beginning of a character on.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[len(s)-n:], "")
}

// guardAway is what a client reads when checks are not possible in the middle of an answer.
func guardAway(cause error) error {
	return fault.New(fault.Unavailable, kindUnavailable, "The answer could not be checked any more and was stopped.").Because(cause)
}
