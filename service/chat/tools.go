package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"

	guardv1 "aran/api/gen/aran/guard/v1"
	"aran/platform/llm"
)

// errTool says that a model wanted to use a tool that it may not use after what its conversation has read.
var errTool = fmt.Errorf("%w: a tool", errLeak)

// toolSources names where results of tools come from, in the order of the request's texts.
func toolSources(r *llm.Request) (out []string) {
	names := map[string]string{}
	var walk func(ps []llm.Part, role llm.Role, source string)
	walk = func(ps []llm.Part, role llm.Role, source string) {
		for _, p := range ps {
			switch p.Kind {
			case llm.Call:
				names[p.ID] = p.Name
			case llm.Result:
				walk(p.Parts, llm.Tool, "tool:"+short(names[p.ID], 100))
			case llm.Text:
				if role == llm.Tool {
					out = append(out, source)
				}
			default:
			}
		}
	}
	for _, m := range r.Messages {
		walk(m.Parts, m.Role, "tool:")
	}
	return out
}

// sourceOf is how a document stands in the record of what a conversation has read: how far it is trusted, and where it is.
func sourceOf(s source) string { return s.trust + ":" + s.collection + "/" + s.document }

// calls holds what a model says from its first tool call on, until the answer is whole: a call is judged with all its arguments,
// and a client that runs calls as they come never sees one that is refused.
type calls struct {
	queue []Piece
	made  []llm.CallDelta // by index: with all that was said
}

// take holds pieces back from the first call on, and returns those that may go on.
func (t *calls) take(pieces []Piece) (pass []Piece) {
	for i, p := range pieces {
		if p.Call == nil && len(t.queue) == 0 {
			continue
		}
		for _, p := range pieces[i:] {
			t.queue = append(t.queue, p)
			t.note(p.Call)
		}
		return pieces[:i]
	}
	return pieces
}

func (t *calls) note(c *llm.CallDelta) {
	if c == nil {
		return
	}
	i := slices.IndexFunc(t.made, func(m llm.CallDelta) bool { return m.Index == c.Index })
	if i < 0 {
		t.made = append(t.made, *c)
		return
	}
	t.made[i].Name += c.Name
	t.made[i].Arguments += c.Arguments
}

// judge asks the guard about every call, and returns what was held back. One refusal ends the answer: what a model does together
// it means together.
func (t *calls) judge(ctx context.Context, c *checker) ([]Piece, error) {
	for _, call := range t.made {
		inner, cancel := context.WithTimeout(ctx, c.s.cfg.GuardTimeout)
		res, err := c.s.d.Guard.CheckTool(inner, &guardv1.CheckToolRequest{
			Tool: short(call.Name, maxToolName), Arguments: call.Arguments, Conversation: c.tainted, Collections: c.collections,
		})
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return nil, asFault(ctx, err)
			}
			return nil, errors.Join(errGuardAway, err)
		}
		verdict := verdictOf(res.GetVerdict())
		c.report.add(verdict, findingsOf(res.GetFindings(), whereTool)...)
		if verdict == verdictBlock {
			return nil, errTool
		}
	}
	out := t.queue
	t.queue, t.made = nil, nil
	return out, nil
}

const maxToolName = 196 // with the mark that short puts behind it, within the bounds of guard.CheckToolRequest
