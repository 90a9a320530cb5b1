package bus

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// envelope is an event on the wire: CloudEvents 1.0, structured JSON, with the extensions arantenant and aranactor,
// and traceparent and tracestate (CloudEvents Distributed Tracing).
type envelope struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Time        string          `json:"time,omitempty"`
	Subject     string          `json:"subject,omitempty"`
	Tenant      string          `json:"arantenant,omitempty"`
	Actor       string          `json:"aranactor,omitempty"`
	TraceParent string          `json:"traceparent,omitempty"`
	TraceState  string          `json:"tracestate,omitempty"`
	ContentType string          `json:"datacontenttype,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"`
}

// Bounds on what is read: an event carries ids and digests, so it is small.
const (
	maxEvent = 40 << 10
	maxID    = 128
	maxField = 1024
)

// Event is a received CloudEvents 1.0 event (structured JSON on the wire).
type Event struct {
	ID, Type, Source, Tenant, Actor, Subject string
	Time                                     time.Time
	Data                                     json.RawMessage
	Attempt                                  int // 1 for the first delivery

	traceParent, traceState string
}

// Encode returns the event as it goes over the wire, or an error when Decode would refuse it. Time is cut to
// microseconds; Attempt is not sent.
func Encode(e Event) ([]byte, error) {
	w := envelope{
		SpecVersion: "1.0", ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Tenant: e.Tenant, Actor: e.Actor,
		TraceParent: e.traceParent, TraceState: e.traceState, Data: e.Data,
	}
	if !e.Time.IsZero() {
		w.Time = e.Time.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
	}
	if len(e.Data) > 0 {
		w.ContentType = "application/json"
	}
	b, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	if _, err := Decode(b); err != nil {
		return nil, err
	}
	return b, nil
}

// Decode reads a structured CloudEvents 1.0 event. It refuses what is too large, lacks an attribute that the
// specification requires, or has a type that could not be a subject of ours. Unknown attributes are skipped.
func Decode(b []byte) (Event, error) {
	if len(b) > maxEvent {
		return Event{}, fmt.Errorf("decode event: %d bytes, at most %d", len(b), maxEvent)
	}
	var w envelope
	if err := json.Unmarshal(b, &w); err != nil {
		return Event{}, fmt.Errorf("decode event: %w", err)
	}
	if err := w.check(); err != nil {
		return Event{}, fmt.Errorf("decode event: %w", err)
	}
	e := Event{
		ID: w.ID, Type: w.Type, Source: w.Source, Tenant: w.Tenant, Actor: w.Actor, Subject: w.Subject, Data: w.Data,
		traceParent: w.TraceParent, traceState: w.TraceState,
	}
	if w.Time != "" {
		t, err := time.Parse(time.RFC3339Nano, w.Time)
		if err != nil {
			return Event{}, fmt.Errorf("decode event: %w", err)
		}
		if e.Time = t.UTC().Truncate(time.Microsecond); e.Time.Year() < 1970 || e.Time.Year() > 9999 {
			return Event{}, fmt.Errorf("decode event: the year %d", e.Time.Year())
		}
	}
	return e, nil
}

func (w envelope) check() error {
	switch {
	case w.SpecVersion != "1.0":
		return fmt.Errorf("specversion %.20q, want 1.0", w.SpecVersion)
	case w.ID == "" || len(w.ID) > maxID:
		return fmt.Errorf("the id has %d bytes, want 1 to %d", len(w.ID), maxID)
	case w.Source == "":
		return errors.New("there is no source")
	case !validType(w.Type):
		return fmt.Errorf("the type %.100q is not aran.<service>.<event>.v<n>", w.Type)
	}
	for name, s := range map[string]string{"source": w.Source, "subject": w.Subject, "tenant": w.Tenant, "actor": w.Actor, "tracestate": w.TraceState, "traceparent": w.TraceParent} {
		if len(s) > maxField {
			return fmt.Errorf("%s has %d bytes, at most %d", name, len(s), maxField)
		}
	}
	for _, s := range []string{w.ID, w.Source, w.Subject, w.Tenant, w.Actor} {
		if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return errors.New("an attribute holds control characters")
		}
	}
	return nil
}

// validType accepts `aran.` and one or more further parts of [a-z0-9_], at most 128 bytes: it is also a subject.
func validType(t string) bool {
	rest, ok := strings.CutPrefix(t, "aran.")
	if !ok || len(t) > 128 {
		return false
	}
	for part := range strings.SplitSeq(rest, ".") {
		if part == "" || strings.ContainsFunc(part, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_'
		}) {
			return false
		}
	}
	return true
}

// validFilter accepts a type, or one that ends in `.>` (all below).
func validFilter(f string) bool {
	if f == "aran.>" {
		return true
	}
	return validType(strings.TrimSuffix(f, ".>"))
}
