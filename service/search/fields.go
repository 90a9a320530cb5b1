package search

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"aran/platform/fault"
)

// Field is metadata that a collection declares.
type Field struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Required bool   `json:"required,omitempty"` // documents without it are refused
}

// Types of fields. A name that nobody declared takes any string.
const (
	FieldText    = "text"
	FieldKeyword = "keyword" // like text; it says that the values are a closed set
	FieldNumber  = "number"
	FieldBoolean = "boolean"
	FieldTime    = "time" // RFC 3339, or a date alone: its midnight in UTC
)

// checkFields refuses a list that says two things about one name.
func checkFields(list []Field) error {
	seen := map[string]bool{}
	for _, f := range list {
		if err := checkText("fields", f.Name); err != nil {
			return err
		}
		if seen[f.Name] {
			return invalid("fields", fmt.Sprintf("declares %q twice", f.Name))
		}
		seen[f.Name] = true
	}
	return nil
}

// conform holds a document's metadata against the declared fields, and returns it with typed values in one spelling.
// All that is wrong is named at once.
func conform(fields []Field, metadata map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(metadata))
	maps.Copy(out, metadata)
	var wrong []fault.Field
	for _, f := range fields {
		v, there := metadata[f.Name]
		switch {
		case !there && f.Required:
			wrong = append(wrong, fault.Field{Path: "metadata." + f.Name, Rule: "required", Message: "is missing, and the collection requires it"})
		case !there, f.Type == FieldText, f.Type == FieldKeyword:
		default:
			value, ok := spell(f.Type, v)
			if !ok {
				wrong = append(wrong, fault.Field{Path: "metadata." + f.Name, Rule: f.Type, Message: fmt.Sprintf("is %.60q, and the collection declares it as %s (%s)", v, f.Type, example(f.Type))})
			}
			out[f.Name] = value
		}
	}
	if len(wrong) > 0 {
		err := fault.New(fault.Invalid, "metadata_mismatch", "The metadata does not fit the collection's fields: %s %s.", wrong[0].Path, wrong[0].Message)
		err.Fields = wrong
		return nil, err
	}
	return out, nil
}

func example(kind string) string {
	switch kind {
	case FieldNumber:
		return "as 12.5"
	case FieldBoolean:
		return "true or false"
	}
	return "as 2026-03-01 or 2026-03-01T12:00:00Z"
}

// spell writes a value of a type in the one way that it is stored in.
func spell(kind, v string) (string, bool) {
	v = strings.TrimSpace(v)
	got, n, at := typed(v)
	if got != kind {
		return v, false
	}
	switch kind {
	case FieldNumber:
		return spellNumber(n), true
	case FieldTime:
		if len(v) > len(time.DateOnly) {
			return at.UTC().Format(time.RFC3339Nano), true
		}
	}
	return v, true
}

// spellNumber writes a number out, or with an exponent where that would be longer than what is looked at as a number.
func spellNumber(n float64) string {
	if s := strconv.FormatFloat(n, 'f', -1, 64); len(s) <= longestTyped {
		return s
	}
	return strconv.FormatFloat(n, 'g', -1, 64)
}

// longestTyped bounds what is looked at as a number or a time.
const longestTyped = 64

// typed says what a value is, and what it is as a number: of a time its microseconds since 1970, of a boolean 0 or 1.
// What is none of these is a text.
func typed(v string) (kind string, number float64, at time.Time) {
	if v == "" || len(v) > longestTyped {
		return FieldText, 0, at
	}
	switch v {
	case "true":
		return FieldBoolean, 1, at
	case "false":
		return FieldBoolean, 0, at
	}
	if strings.ContainsAny(v[:1], "+-.0123456789") && !strings.ContainsAny(v, "xX_pPnN") {
		if n, err := strconv.ParseFloat(v, 64); err == nil && !math.IsInf(n, 0) {
			return FieldNumber, n, at
		}
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, v); err == nil {
			return FieldTime, float64(t.UnixMicro()), t
		}
	}
	return FieldText, 0, at
}

// column is how a value stands in the database besides its text.
func column(v string) (kind string, number any) {
	kind, n, _ := typed(v)
	if kind == FieldText {
		return kind, nil
	}
	return kind, n
}

// shown is metadata as clients see it: declared numbers and booleans are such.
func shown(fields []Field, metadata map[string]string) map[string]any {
	out := make(map[string]any, len(metadata))
	for k, v := range metadata {
		out[k] = v
	}
	for _, f := range fields {
		v, there := metadata[f.Name]
		if kind, n, _ := typed(v); there && kind == f.Type {
			switch kind {
			case FieldNumber:
				out[f.Name] = n
			case FieldBoolean:
				out[f.Name] = n == 1
			}
		}
	}
	return out
}
