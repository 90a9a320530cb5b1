package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"aran/platform/fault"
)

// Bounds on a request. A body's size is bounded before it gets here.
const (
	maxMessages = 2000
	maxParts    = 1000 // of one message
	maxTools    = 256
	maxStops    = 16
)

// object is a JSON object whose values are taken out one by one; what remains is what nobody knew.
// Keys match exactly: with encoding/json alone "MODEL" would be "model" to us and not to others.
type object map[string]json.RawMessage

// decoder remembers the first thing that is wrong, so that reading code needs no error checks of its own.
type decoder struct{ err error }

func (d *decoder) fail(path, format string, args ...any) {
	if d.err == nil {
		msg := fmt.Sprintf(format, args...)
		f := fault.New(fault.Invalid, "invalid_value", "%s: %s", path, msg)
		f.Fields = []fault.Field{{Path: path, Message: msg}}
		d.err = f
	}
}

// decodeObject reads a body that must be one JSON object.
func decodeObject(body []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	var o object
	if err := dec.Decode(&o); err != nil {
		return nil, malformed(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Invalid, "malformed_json", "The body goes on after its JSON value, at byte %d.", dec.InputOffset())
	}
	if o == nil {
		return nil, fault.New(fault.Invalid, "malformed_json", "The body must be a JSON object, not null.")
	}
	return o, nil
}

func malformed(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fault.New(fault.Invalid, "malformed_json", "The body is not valid JSON: the error is at byte %d.", syntax.Offset).Because(err)
	case errors.As(err, &kind):
		return fault.New(fault.Invalid, "malformed_json", "The body must be a JSON object, not %s.", kind.Value).Because(err)
	default:
		return fault.New(fault.Invalid, "malformed_json", "The body is not valid JSON: it ends too early.").Because(err)
	}
}

func (d *decoder) object(path string, raw json.RawMessage) object {
	var o object
	if err := json.Unmarshal(raw, &o); err != nil || o == nil {
		d.fail(path, "must be an object")
		return object{}
	}
	return o
}

// list takes an array of at most n things.
func (d *decoder) list(path string, raw json.RawMessage, n int) []json.RawMessage {
	var l []json.RawMessage
	if err := json.Unmarshal(raw, &l); err != nil {
		d.fail(path, "must be an array")
		return nil
	}
	if len(l) > n {
		d.fail(path, "has %d elements; at most %d are taken", len(l), n)
		return nil
	}
	return l
}

// take removes a key; a null is as good as absent.
func (o object) take(key string) json.RawMessage {
	raw := o[key]
	delete(o, key)
	if string(bytes.TrimSpace(raw)) == "null" {
		return nil
	}
	return raw
}

// scalar removes a key and reads it as T; nil when it is not there.
func scalar[T any](d *decoder, o object, path, key, want string) *T {
	raw := o.take(key)
	if raw == nil {
		return nil
	}
	v := new(T)
	if err := json.Unmarshal(raw, v); err != nil {
		d.fail(join(path, key), "must be %s", want)
		return nil
	}
	return v
}

func (d *decoder) text(o object, path, key string) string {
	if s := scalar[string](d, o, path, key, "a string"); s != nil {
		return *s
	}
	return ""
}

// number takes a number between 0 and hi.
func (d *decoder) number(o object, key string, hi float64) *float64 {
	v := scalar[float64](d, o, "", key, "a number")
	if v != nil && (*v < 0 || *v > hi || math.IsNaN(*v)) {
		d.fail(key, "must be between 0 and %g", hi)
	}
	return v
}

// count takes an integer between lo and hi.
func (d *decoder) count(o object, path, key string, lo, hi int) *int {
	v := scalar[int](d, o, path, key, "an integer")
	if v != nil && (*v < lo || *v > hi) {
		d.fail(join(path, key), "must be between %d and %d", lo, hi)
	}
	return v
}

func (d *decoder) stops(o object, key string) []string {
	raw := o.take(key)
	if raw == nil {
		return nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}
	}
	var many []string
	if json.Unmarshal(raw, &many) != nil {
		d.fail(key, "must be a string or an array of strings")
		return nil
	}
	if len(many) > maxStops {
		d.fail(key, "has %d elements; at most %d are taken", len(many), maxStops)
	}
	return many
}

func (o object) rest() map[string]json.RawMessage {
	if len(o) == 0 {
		return nil
	}
	return o
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func at(path string, i int) string { return path + "." + strconv.Itoa(i) }

// fields is an object in the making: the rest that nobody knew, with what we know on top.
func fields(rest map[string]json.RawMessage) map[string]any {
	m := make(map[string]any, len(rest)+8)
	for k, v := range rest {
		m[k] = v
	}
	return m
}

// encode is json.Marshal without HTML escapes (texts are read by models, not browsers).
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// quoted joins names for a sentence.
func quoted(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = strconv.Quote(n)
	}
	return strings.Join(q, ", ")
}
