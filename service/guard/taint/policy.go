package taint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

var errMalformed = errors.New("malformed set of values")

// Outcome is what becomes of a tool call.
type Outcome string

// The outcomes, from the mildest up. Ask means: not without a person who has seen the arguments.
const (
	Allow Outcome = "allow"
	Flag  Outcome = "flag"
	Ask   Outcome = "ask"
	Deny  Outcome = "deny"
)

func (o Outcome) rank() int { return slices.Index([]Outcome{Allow, Flag, Ask, Deny}, o) }

// Policy says which tools may be used at which level. The first rule whose pattern fits a tool decides; a tool that no
// rule names has effects, as far as anybody knows.
type Policy struct {
	Trusted []string `json:"trusted" yaml:"trusted" doc:"patterns of sources whose documents and results are trusted, as builtin:* or outside:handbook/*"`
	Rules   []Rule   `json:"rules" yaml:"rules" doc:"what tools may be used up to which level; the first that fits decides"`
	Flow    Outcome  `json:"flow" yaml:"flow" doc:"what becomes of a call that is aimed at a host, address, account or amount that stands in untrusted text only: allow, flag, ask or deny"`
}

// Rule is about some tools.
type Rule struct {
	Tools  []string `json:"tools" yaml:"tools" doc:"patterns of names, with * for anything; written in lower case with _ between words"`
	UpTo   Level    `json:"up_to" yaml:"up_to" doc:"they may be used up to this level: never, clean, user, document, untrusted or flagged"`
	Beyond Outcome  `json:"beyond" yaml:"beyond" doc:"what becomes of a call beyond it: ask or deny; deny unless said otherwise"`
	Reads  bool     `json:"reads" yaml:"reads" doc:"they change nothing and tell nobody: only web and other addresses in their arguments are looked at"`
	Flow   Outcome  `json:"flow" yaml:"flow" doc:"in place of the policy's"`
}

// Default lets tools that only read go on after untrusted text, as long as they are not aimed by it, and stops the rest.
func Default() Policy {
	return Policy{
		Trusted: []string{"builtin:*"},
		Flow:    Deny,
		Rules: []Rule{
			// They read, and carry data out with what they ask for.
			{Tools: []string{"*url*", "*http*", "*fetch*", "*browse*", "*web*", "*download*", "*curl*"}, UpTo: Document, Beyond: Deny},
			{Tools: []string{"get", "get_*", "list", "list_*", "read", "read_*", "search", "search_*", "find", "find_*", "lookup", "lookup_*", "describe_*", "count_*", "calculate", "calculate_*", "calculator", "convert_*"}, UpTo: Flagged, Beyond: Deny, Reads: true},
		},
	}
}

// Lists are patterns of tools as policy documents have them. Denied is what Deny names and, as soon as Allow or Ask is set, what
// neither of them names; of these two, Allow goes first. Nothing set allows everything.
type Lists struct{ Allow, Ask, Deny []string }

// FromLists makes what holds at every level, and what holds from Untrusted on, into policies. Whatever the second one allows,
// it allows only as long as no attack was found, and not at what untrusted text names.
func FromLists(always, afterUntrusted Lists) Policies {
	rules := func(l Lists, below, upTo Level) (out []Rule) {
		add := func(tools []string, upTo Level, beyond Outcome) {
			if len(tools) > 0 {
				out = append(out, Rule{Tools: tools, UpTo: upTo, Beyond: beyond})
			}
		}
		add(l.Deny, below, Deny)
		add(l.Allow, upTo, Deny)
		add(l.Ask, below, Ask)
		if l.Allow == nil && l.Ask == nil {
			below = upTo
		}
		add([]string{"*"}, below, Deny)
		return out
	}
	trusted := Default().Trusted
	return Policies{
		{Trusted: trusted, Flow: Allow, Rules: rules(always, Never, Flagged)},
		{Trusted: trusted, Flow: Deny, Rules: rules(afterUntrusted, Document, Untrusted)},
	}
}

// Bounds of a policy.
const (
	maxRules    = 100
	maxPatterns = 200 // of one list
	maxPattern  = 200 // bytes
)

// Check names the first thing that can't be used.
func (p Policy) Check() error {
	if len(p.Rules) > maxRules {
		return fmt.Errorf("rules: there are %d, use at most %d", len(p.Rules), maxRules)
	}
	if err := checkPatterns("trusted", p.Trusted); err != nil {
		return err
	}
	if p.Flow != "" && p.Flow.rank() < 0 {
		return fmt.Errorf("flow %q: use allow, flag, ask or deny", p.Flow)
	}
	for i, r := range p.Rules {
		at := fmt.Sprintf("rules[%d].", i)
		if len(r.Tools) == 0 {
			return fmt.Errorf("%stools: name at least one", at)
		}
		if err := checkPatterns(at+"tools", r.Tools); err != nil {
			return err
		}
		if r.UpTo < Never || r.UpTo > Flagged {
			return fmt.Errorf("%sup_to %d: use %s", at, int(r.UpTo), strings.Join(levels, ", "))
		}
		if r.Beyond != "" && r.Beyond != Ask && r.Beyond != Deny {
			return fmt.Errorf("%sbeyond %q: use ask or deny", at, r.Beyond)
		}
		if r.Flow != "" && r.Flow.rank() < 0 {
			return fmt.Errorf("%sflow %q: use allow, flag, ask or deny", at, r.Flow)
		}
	}
	return nil
}

func checkPatterns(field string, list []string) error {
	if len(list) > maxPatterns {
		return fmt.Errorf("%s: there are %d patterns, use at most %d", field, len(list), maxPatterns)
	}
	for _, p := range list {
		if p == "" || len(p) > maxPattern || !utf8.ValidString(p) {
			return fmt.Errorf("%s: a pattern is empty, longer than %d bytes or no UTF-8", field, maxPattern)
		}
	}
	return nil
}

// Policies all hold: a source is trusted that all of them trust, and the strictest decision stands. None at all means the
// default one.
type Policies []Policy

func (ps Policies) orDefault() Policies {
	if len(ps) == 0 {
		return Policies{Default()}
	}
	return ps
}

// Level is the highest that any of them gives.
func (ps Policies) Level(r Read) Level {
	out := Clean
	for _, p := range ps.orDefault() {
		out = max(out, p.Level(r))
	}
	return out
}

// Decide is the strictest decision, with everybody's reasons.
func (ps Policies) Decide(s State, key string, c Call) Decision {
	out := Decision{Outcome: Allow, Level: s.Level}
	for _, p := range ps.orDefault() {
		d := p.Decide(s, key, c)
		if out.Rule == "" || d.Outcome.rank() > out.Outcome.rank() {
			out.Rule = d.Rule
		}
		for _, r := range d.Reasons {
			out.add(r)
		}
	}
	return out
}

// Call is a tool that a model wants to use.
type Call struct {
	Tool      string
	Arguments string // JSON; what is no JSON is looked at as one text
}

// Decision is what becomes of a call, and why.
type Decision struct {
	Outcome Outcome
	Level   Level
	Rule    string // the pattern that decided; "unknown": no rule names the tool
	Reasons []Reason
}

// Reason is one of them.
type Reason struct {
	Kind    string // tool.level, tool.flow, tool.recipient
	Rule    string
	Outcome Outcome
	Why     string // one sentence, without the values themselves
}

// Kinds of reasons.
const (
	KindLevel     = "tool.level"     // the conversation has read too much that is not trusted
	KindFlow      = "tool.flow"      // the call is aimed at what untrusted text names
	KindRecipient = "tool.recipient" // it is aimed at what nobody named
	KindMalformed = "tool.malformed" // its arguments are no JSON
)

const unknown = "unknown"

// Decide says what becomes of a call in a conversation. It takes linear time.
func (p Policy) Decide(s State, key string, c Call) Decision {
	rule, pattern := p.rule(c.Tool)
	d := Decision{Outcome: Allow, Level: s.Level, Rule: pattern}
	if s.Level > rule.UpTo {
		beyond := or(rule.Beyond, Deny)
		if s.Level == Flagged && rule.UpTo > Never {
			beyond = Deny // who asks a person then asks them for what an attacker wrote
		}
		d.add(Reason{KindLevel, pattern, beyond, levelWhy(s.Level, rule.UpTo)})
	}
	if s.Level < Untrusted {
		return d // nothing was read that could aim it
	}
	flow := or(rule.Flow, p.Flow, Deny)
	texts, whole := leaves(c.Arguments)
	if !whole {
		d.add(Reason{KindMalformed, pattern, Ask, "The arguments are no JSON that could be looked at."})
	}
	for _, v := range texts {
		aim(&d, s, key, v, rule.Reads, flow)
	}
	return d
}

// aim looks at one text of the arguments. A tool that only reads may be given numbers and names that were found; hosts and
// addresses would carry data to whoever wrote them there.
func aim(d *Decision, s State, key, text string, reads bool, flow Outcome) { //nolint:revive // a fact about the tool
	values, all := valuesOf(fold(text), 0)
	if !all {
		d.add(Reason{KindMalformed, unknown, Ask, "The arguments name more than can be looked at."})
	}
	for _, v := range values {
		aimed := v.kind == kindHost || v.kind == kindAddress
		if reads && !aimed {
			continue
		}
		digest := v.digest(key)
		switch {
		case s.Vouched.has(digest):
		case s.Foreign.has(digest):
			d.add(Reason{KindFlow, v.kind, flow, "The " + describe(v.kind) + " in the arguments stands in text that is not trusted, and the user did not name it."})
		case s.Foreign.Full():
			d.add(Reason{KindFlow, v.kind, flow, "The conversation has read too much to tell whether the " + describe(v.kind) + " comes from text that is not trusted."})
		case aimed && reads:
			d.add(Reason{KindRecipient, v.kind, Flag, "Nothing that is trusted names the " + describe(v.kind) + " in the arguments."})
		case aimed:
			d.add(Reason{KindRecipient, v.kind, least(Ask, flow), "Nothing that is trusted names the " + describe(v.kind) + " in the arguments."})
		}
	}
}

func describe(kind string) string {
	switch kind {
	case kindHost:
		return "web address"
	case kindAddress:
		return "address"
	case kindAccount:
		return "number or code"
	case kindAmount:
		return "amount"
	default:
		return "name"
	}
}

// add takes a reason in once for each kind and rule.
func (d *Decision) add(r Reason) {
	if r.Outcome == Allow {
		return
	}
	if r.Outcome.rank() > d.Outcome.rank() {
		d.Outcome = r.Outcome
	}
	if !slices.Contains(d.Reasons, r) {
		d.Reasons = append(d.Reasons, r)
	}
}

func levelWhy(at, upTo Level) string {
	if upTo == Never {
		return "The policy allows this tool to no model."
	}
	what := map[Level]string{User: "the user's text", Document: "documents", Untrusted: "text that anybody could have written", Flagged: "text in which an attack was found"}[at]
	return "The conversation has read " + what + "; the policy allows this tool up to the level " + upTo.String() + "."
}

func or(list ...Outcome) Outcome {
	for _, o := range list {
		if o != "" {
			return o
		}
	}
	return Deny
}

func least(a, b Outcome) Outcome {
	if a.rank() < b.rank() {
		return a
	}
	return b
}

// rule finds the first rule for a tool. Of a name with a namespace (server__tool) the last part counts as well.
func (p Policy) rule(tool string) (Rule, string) {
	name := canonical(tool)
	last := name
	if i := strings.LastIndex(name, "__"); i >= 0 {
		last = name[i+2:]
	}
	for _, r := range p.Rules {
		for _, pattern := range r.Tools {
			if p := canonical(pattern); matches(pattern, tool) || matches(p, name) || matches(p, last) {
				return r, pattern
			}
		}
	}
	return Rule{UpTo: Document, Beyond: Deny}, unknown
}

// canonical writes a tool's name in lower case with _ between words: sendEmail and send-email are send_email.
func canonical(s string) string {
	var b strings.Builder
	lower := false
	for _, r := range s {
		switch {
		case unicode.IsUpper(r):
			if lower {
				b.WriteByte('_')
			}
			b.WriteRune(unicode.ToLower(r))
			lower = false
			continue
		case r == '.' || r == '/' || r == ':':
			b.WriteString("__")
		case r == '-' || unicode.IsSpace(r):
			b.WriteByte('_')
		default:
			b.WriteRune(r)
		}
		lower = unicode.IsLower(r) || unicode.IsDigit(r)
	}
	return b.String()
}

func matchesAny(patterns []string, s string) bool {
	return s != "" && slices.ContainsFunc(patterns, func(p string) bool { return matches(p, s) })
}

// matches reports whether a pattern with * for anything fits all of a text, in time that grows with the product of their
// lengths at most: pieces are found one after the other, from the left.
func matches(pattern, s string) bool {
	pieces := strings.Split(pattern, "*")
	if len(pieces) == 1 {
		return pattern == s
	}
	first, last := pieces[0], pieces[len(pieces)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, piece := range pieces[1 : len(pieces)-1] {
		i := strings.Index(s, piece)
		if i < 0 {
			return false
		}
		s = s[i+len(piece):]
	}
	return true
}

// Bounds of arguments.
const (
	maxLeaves = 4096
	maxDepth  = 64
)

// leaves are the texts and numbers in arguments, names included. Numbers stay as they were written. What is no JSON, or too
// much of it, is one text as a whole; whole then is false.
func leaves(arguments string) (out []string, whole bool) {
	if strings.TrimSpace(arguments) == "" {
		return nil, true
	}
	d := json.NewDecoder(bytes.NewReader([]byte(arguments)))
	d.UseNumber()
	depth := 0
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) && depth == 0 && len(out) <= maxLeaves {
			return out, true
		}
		if err != nil || len(out) > maxLeaves || depth > maxDepth {
			return []string{arguments}, false
		}
		switch t := t.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				depth++
			} else {
				depth--
			}
		case string:
			out = append(out, t)
		case json.Number:
			out = append(out, t.String())
		}
	}
}
