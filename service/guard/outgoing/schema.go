package outgoing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"aran/service/guard/detect"
	"aran/service/guard/policy"
)

// Bounds of schemas and of what is checked by them.
const (
	MaxSchema     = 100_000 // bytes
	maxDepth      = 64
	schemaSteps   = 200_000 // uses of a subschema in one check
	maxViolations = 8
	schemaURL     = "https://schema.invalid/answer"
	stepsURL      = "https://schema.invalid/steps"
)

// ErrSchema says that a schema can't be used; its text says why.
var ErrSchema = errors.New("the schema can't be used")

// Schema is a JSON schema (draft 2020-12). It is used by one goroutine.
type Schema struct {
	compiled *jsonschema.Schema
	steps    *steps
}

// steps bounds the work of a check: a schema can be written so that its cost grows exponentially.
type steps struct{ left int }

var errSteps = errors.New("too many steps")

// Validate counts.
func (s *steps) Validate(*jsonschema.ValidatorContext, any) {
	if s.left--; s.left < 0 {
		panic(errSteps)
	}
}

// nothing loads nothing: a reference to somewhere else is an error.
type nothing struct{}

func (nothing) Load(string) (any, error) {
	return nil, errors.New("references to other documents are not followed")
}

// CheckSchemas compiles the schemas of a policy. It returns a *policy.Error for the first that can't be used.
func CheckSchemas(p policy.Policy) error {
	for i, text := range p.Schemas {
		if _, err := NewSchema(text); err != nil {
			return &policy.Error{Field: fmt.Sprintf("schemas[%d]", i), Why: err.Error()}
		}
	}
	return nil
}

// NewSchema compiles a schema. It returns an error that wraps ErrSchema when it is none, is too large or too deep, or refers to
// other documents: nothing is ever loaded.
func NewSchema(text string) (*Schema, error) {
	if len(text) > MaxSchema {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are taken", ErrSchema, len(text), MaxSchema)
	}
	doc, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	switch doc.(type) {
	case map[string]any, bool:
	default:
		return nil, fmt.Errorf("%w: it must be an object or a boolean", ErrSchema)
	}
	s := &Schema{steps: &steps{}}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(nothing{})
	c.AssertFormat()
	c.RegisterVocabulary(&jsonschema.Vocabulary{
		URL: stepsURL,
		Compile: func(*jsonschema.CompilerContext, map[string]any) (jsonschema.SchemaExt, error) {
			return s.steps, nil
		},
	})
	c.AssertVocabs()
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	s.steps.left = schemaSteps // the schema itself is checked by the schema of schemas
	err = bounded(func() (err error) {
		s.compiled, err = c.Compile(schemaURL)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrSchema, reason(err))
	}
	return s, nil
}

// bounded turns the end of the steps into an error.
func bounded(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if p != errSteps { //nolint:errorlint,err113 // a panic's value
				panic(p)
			}
			err = errSteps
		}
	}()
	return fn()
}

// reason is one line about what is wrong with a schema.
func reason(err error) string {
	if invalid, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		if v, ok := errors.AsType[*jsonschema.ValidationError](invalid.Err); ok {
			if all := violations(v, nil); len(all) > 0 {
				return all[0].where + ": " + all[0].why
			}
		}
	}
	return clip(strings.ReplaceAll(strings.ReplaceAll(err.Error(), schemaURL, ""), "\n", " "), 300)
}

// Check reports how a whole answer breaks the schema; nothing when it meets it. An answer that stands in one Markdown code block
// is taken without the block.
func (s *Schema) Check(answer string) []detect.Finding {
	one := func(rule, why string) []detect.Finding {
		return []detect.Finding{{Kind: "schema", Rule: rule, Score: 1, Start: 0, End: len(answer), Why: why}}
	}
	doc, err := decode(unfenced(answer))
	if err != nil {
		return one("json", "The answer is no JSON value: "+err.Error()+".")
	}
	s.steps.left = schemaSteps
	err = bounded(func() error { return s.compiled.Validate(doc) })
	var v *jsonschema.ValidationError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errSteps):
		return one("steps", "The answer can't be checked by this schema: it takes too many steps.")
	case !errors.As(err, &v):
		return one("schema", "The answer can't be checked by this schema.")
	}
	var out []detect.Finding
	for _, x := range violations(v, nil) {
		f := one("schema."+x.keyword, "At "+x.where+": "+x.why+".")[0]
		out = append(out, f)
	}
	return out
}

type violation struct{ where, keyword, why string }

// violations lists the innermost reasons, up to maxViolations.
func violations(e *jsonschema.ValidationError, out []violation) []violation {
	if len(out) >= maxViolations {
		return out
	}
	if len(e.Causes) > 0 {
		for _, c := range e.Causes {
			out = violations(c, out)
		}
		return out
	}
	keyword := "false"
	if p := e.ErrorKind.KeywordPath(); len(p) > 0 {
		keyword = p[0]
	}
	where := "/"
	if len(e.InstanceLocation) > 0 {
		where = ""
		for _, t := range e.InstanceLocation {
			where += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(t)
		}
	}
	why := e.ErrorKind.LocalizedString(message.NewPrinter(language.English))
	if quotes[keyword] {
		why = "the value does not meet " + keyword // the library's sentence repeats the value
	}
	return append(out, violation{clip(where, 200), keyword, clip(why, 200)})
}

// quotes are keywords whose reasons would repeat a part of the answer.
var quotes = set("pattern", "format", "const", "enum", "maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum", "multipleOf", "propertyNames", "contains") //nolint:gochecknoglobals // a constant table

// decode reads one JSON value and nothing behind it, of bounded depth and without a name that is there twice.
func decode(text string) (any, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("it is no UTF-8")
	}
	if err := shallow(text); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, fmt.Errorf("the error is at byte %d", syntax.Offset)
		}
		return nil, errors.New("it ends too early")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("it goes on after the value, at byte %d", d.InputOffset())
	}
	return v, nil
}

// shallow refuses what is nested too deep, before it is read.
func shallow(text string) error {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("it is nested more than %d deep", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// unfenced takes an answer out of the one code block that it may stand in.
func unfenced(s string) string {
	t := strings.TrimSpace(s)
	if !strings.HasPrefix(t, "```") || !strings.HasSuffix(t, "\n```") {
		return s
	}
	_, body, ok := strings.Cut(strings.TrimSuffix(t, "\n```"), "\n")
	if !ok || strings.Contains(body, "```") {
		return s
	}
	return body
}

// clip cuts between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
