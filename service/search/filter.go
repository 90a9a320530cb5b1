package search

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	searchv1 "aran/api/gen/aran/search/v1"
)

// Condition is a test of a document's metadata by one name. Without values and range it asks whether there is a value.
type Condition struct {
	Name  string
	In    []string // the value is one of these
	Range *Range   // the value is of the range's kind, and within
	Not   bool     // the test must fail; it does for a document without a value
}

// Range is between numbers or times; nil bounds are open.
type Range struct {
	Time             bool     // microseconds since 1970
	Above, From      *float64 // greater than; at least
	Below, To        *float64 // less than; at most
	numbers, moments int      // of the bounds
}

// kinds of values as they stand beside a value's text.
const (
	kindNumber = "number"
	kindTime   = "time"
)

func (r *Range) kind() string {
	if r.Time {
		return kindTime
	}
	return kindNumber
}

// set puts a bound in place. Bounds are all numbers or all times.
func (r *Range) set(into **float64, name, op, text string) error {
	n, isTime, err := bound(text)
	if err != nil {
		return invalid("filter."+name+"."+op, err.Error())
	}
	if isTime {
		r.moments++
	} else {
		r.numbers++
	}
	if r.moments > 0 && r.numbers > 0 {
		return invalid("filter."+name, "compares with a number and with a time; use one of them")
	}
	r.Time = isTime
	*into = &n
	return nil
}

// bound reads a number, a time of RFC 3339, or a date, which is its midnight in UTC.
func bound(s string) (n float64, isTime bool, err error) {
	if n, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(n) && !math.IsInf(n, 0) {
		return n, false, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return float64(t.UnixMicro()), true, nil
		}
	}
	return 0, false, fmt.Errorf("is %.40q, which is neither a number nor a time such as 2026-03-01 or 2026-03-01T12:00:00Z", s)
}

// describe calls part with all that makes the condition what it is.
func (c Condition) describe(part func(string)) {
	part(c.Name)
	part(strconv.FormatBool(c.Not))
	for _, v := range c.In {
		part(v)
	}
	if r := c.Range; r != nil {
		part(r.kind())
		for _, b := range []*float64{r.Above, r.From, r.Below, r.To} {
			if b == nil {
				part("")
			} else {
				part(strconv.FormatFloat(*b, 'g', -1, 64))
			}
		}
	}
	part("")
}

// conditions reads what a request wants of metadata: in one order, so that the same wishes are the same query.
func conditions(r *searchv1.RetrieveRequest) (out []Condition, err error) {
	for name, value := range r.GetFilter() {
		out = append(out, Condition{Name: name, In: []string{value}})
	}
	for _, m := range r.GetConditions() {
		c := Condition{Name: m.GetName(), Not: m.GetNot()}
		switch test := m.GetTest().(type) {
		case *searchv1.Condition_Equals:
			c.In = []string{test.Equals}
		case *searchv1.Condition_In:
			c.In = slices.Sorted(slices.Values(test.In.GetValues()))
		case *searchv1.Condition_Range:
			c.Range, err = rangeOf(c.Name, test.Range)
		case *searchv1.Condition_Exists:
			c.Not = c.Not == test.Exists
		}
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	for _, c := range out {
		for _, s := range append([]string{c.Name}, c.In...) {
			if err := checkText("filter", s); err != nil {
				return nil, err
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Condition) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

func rangeOf(name string, m *searchv1.Range) (*Range, error) {
	r := &Range{}
	for _, b := range []struct {
		op   string
		text *string
		into **float64
	}{{"gt", m.Gt, &r.Above}, {"gte", m.Gte, &r.From}, {"lt", m.Lt, &r.Below}, {"lte", m.Lte, &r.To}} {
		if b.text == nil {
			continue
		}
		if err := r.set(b.into, name, b.op, *b.text); err != nil {
			return nil, err
		}
	}
	if r.moments+r.numbers == 0 {
		return nil, invalid("filter."+name, "is a range without a bound; use gt, gte, lt or lte")
	}
	return r, nil
}

// matchBody is what a filter wants of one name: a value, or an object of tests that must all hold.
type matchBody struct { //nolint:recvcheck // a schema is asked of the value
	tests []*searchv1.Condition // without names
	err   error
}

// Schema describes a match for the API's document.
func (matchBody) Schema(huma.Registry) *huma.Schema {
	value := []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeNumber}, {Type: huma.TypeBoolean}}
	either := func() *huma.Schema { return &huma.Schema{OneOf: value} }
	edge := func() *huma.Schema {
		return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeNumber}}}
	}
	tests := map[string]*huma.Schema{
		"eq": either(), "not": either(), "in": {Type: huma.TypeArray, Items: either()}, "not_in": {Type: huma.TypeArray, Items: either()},
		"gt": edge(), "gte": edge(), "lt": edge(), "lte": edge(), "exists": {Type: huma.TypeBoolean},
	}
	return &huma.Schema{
		Description: "a value that the metadata must have, or tests that must all hold: eq, not, in, not_in, exists, and gt, gte, lt, lte for numbers and for times",
		OneOf:       append(slices.Clone(value), &huma.Schema{Type: huma.TypeObject, Properties: tests, AdditionalProperties: false}),
	}
}

// UnmarshalJSON reads a value or an object of tests. What is wrong is kept for an answer that names the field.
func (m *matchBody) UnmarshalJSON(b []byte) error {
	var tests map[string]json.RawMessage
	if object := json.Unmarshal(b, &tests) == nil && tests != nil; !object {
		m.tests, m.err = equals([]json.RawMessage{b}, false)
		return nil
	}
	edges := &searchv1.Range{}
	for _, op := range slices.Sorted(maps.Keys(tests)) {
		if err := m.test(op, tests[op], edges); err != nil {
			m.err = fmt.Errorf("%s: %w", op, err)
			break
		}
	}
	if edges.Gt != nil || edges.Gte != nil || edges.Lt != nil || edges.Lte != nil {
		m.tests = append(m.tests, &searchv1.Condition{Test: &searchv1.Condition_Range{Range: edges}})
	}
	if len(m.tests) == 0 && m.err == nil {
		m.err = errors.New("is an object without a test")
	}
	return nil
}

func (m *matchBody) test(op string, b json.RawMessage, edges *searchv1.Range) error {
	switch op {
	case "eq", "not":
		tests, err := equals([]json.RawMessage{b}, op == "not")
		m.tests = append(m.tests, tests...)
		return err
	case "in", "not_in":
		var list []json.RawMessage
		if err := json.Unmarshal(b, &list); err != nil || len(list) == 0 {
			return errors.New("is not a list of values")
		}
		tests, err := equals(list, op == "not_in")
		m.tests = append(m.tests, tests...)
		return err
	case "exists":
		var there bool
		if err := json.Unmarshal(b, &there); err != nil {
			return errors.New("is neither true nor false")
		}
		m.tests = append(m.tests, &searchv1.Condition{Test: &searchv1.Condition_Exists{Exists: there}})
		return nil
	case "gt", "gte", "lt", "lte":
		text, _, err := scalar(b)
		if err != nil {
			return err
		}
		*map[string]**string{"gt": &edges.Gt, "gte": &edges.Gte, "lt": &edges.Lt, "lte": &edges.Lte}[op] = &text
		return nil
	}
	return errors.New("is no test; use eq, not, in, not_in, exists, gt, gte, lt or lte")
}

// equals wants one of some values. A number is compared as a number: 2 is 2.0.
func equals(list []json.RawMessage, not bool) ([]*searchv1.Condition, error) {
	texts := make([]string, len(list))
	numbers := 0
	for i, b := range list {
		text, isNumber, err := scalar(b)
		if err != nil {
			return nil, err
		}
		if isNumber {
			numbers++
		}
		texts[i] = text
	}
	if numbers == 1 && len(list) == 1 {
		return []*searchv1.Condition{{Not: not, Test: &searchv1.Condition_Range{Range: &searchv1.Range{Gte: &texts[0], Lte: &texts[0]}}}}, nil
	}
	return []*searchv1.Condition{{Not: not, Test: &searchv1.Condition_In{In: &searchv1.Values{Values: texts}}}}, nil
}

// scalar is a JSON value as the text that metadata would have.
func scalar(b json.RawMessage) (text string, isNumber bool, err error) {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return "", false, err
	}
	switch v := v.(type) {
	case string:
		return v, false, nil
	case bool:
		return strconv.FormatBool(v), false, nil
	case float64:
		return spellNumber(v), true, nil
	}
	return "", false, errors.New("is neither a text nor a number nor true or false")
}

// conditionsOf names the tests of a filter.
func conditionsOf(filter map[string]matchBody) (out []*searchv1.Condition, err error) {
	for _, name := range slices.Sorted(maps.Keys(filter)) {
		m := filter[name]
		if m.err != nil {
			return nil, invalid("filter."+name, m.err.Error())
		}
		for _, t := range m.tests {
			t.Name = name
			out = append(out, t)
		}
	}
	return out, nil
}
