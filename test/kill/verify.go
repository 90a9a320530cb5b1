package kill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// verify compares a restarted platform with the ledger and returns everything that does not fit.
func (l *ledger) verify(ctx context.Context, s *site) error {
	return errors.Join(l.verifyKeys(ctx, s), l.verifyDocuments(ctx, s), l.verifyAudit(ctx, s), l.verifyNothingDead(ctx, s), auditVerify(ctx, s))
}

func (l *ledger) verifyKeys(ctx context.Context, s *site) error {
	var errs []error
	models := request{method: http.MethodGet, path: "/v1/models"}
	for id, key := range l.keys {
		if a, _, err := s.try(ctx, models, key); err != nil || a.Status != http.StatusOK {
			errs = append(errs, lost("acknowledged key %s: %d %w", id, a.Status, err))
		}
	}
	for id, key := range l.revoked {
		if err := s.awaitRefused(ctx, key); err != nil {
			errs = append(errs, lost("revocation of key %s: %w", id, err))
		}
	}
	for _, mail := range l.accounts {
		r := request{http.MethodPost, "/api/v1/sessions", map[string]string{"email": mail, "password": "correct horse battery"}}
		if a, _, err := s.try(ctx, r, ""); err != nil || a.Status != http.StatusCreated {
			errs = append(errs, lost("acknowledged account %s: %d %.300s %w", mail, a.Status, a.Body, err))
		}
	}
	return errors.Join(append(errs, l.verifyNames(ctx, s))...)
}

// awaitRefused waits for as long as the word of a revocation may take: after a restart, not at all.
func (s *site) awaitRefused(ctx context.Context, key string) error {
	deadline := time.Now().Add(s.patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		a, _, err := s.try(ctx, request{method: http.MethodGet, path: "/v1/models"}, key)
		switch {
		case err != nil:
			return err
		case a.Status == http.StatusUnauthorized:
			return nil
		case !time.Now().Before(deadline):
			return fmt.Errorf("it is answered %d", a.Status)
		}
		<-tick.C
	}
}

// verifyNames looks for keys that were made twice: each was asked for under a name of its own.
func (l *ledger) verifyNames(ctx context.Context, s *site) error {
	made, cursor := map[string]int{}, ""
	for {
		var page struct {
			Keys       []struct{ Name string }
			NextCursor string `json:"next_cursor"`
		}
		if err := call(ctx, s, http.MethodGet, "/api/v1/keys?limit=100&cursor="+url.QueryEscape(cursor), nil, &page, http.StatusOK); err != nil {
			return err
		}
		for _, k := range page.Keys {
			made[k.Name]++
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	var errs []error
	for name, n := range made {
		if n != 1 {
			errs = append(errs, twice("key %s was made %d times", name, n))
		}
	}
	return errors.Join(errs...)
}

func (l *ledger) verifyDocuments(ctx context.Context, s *site) error {
	var errs []error
	for id, w := range l.documents {
		if err := l.awaitIndexed(ctx, s, id); err != nil {
			errs = append(errs, lost("acknowledged document: %w", err))
			continue
		}
		var found struct {
			Hits []struct{ Document, Chunk string }
		}
		if err := call(ctx, s, http.MethodPost, "/api/v1/collections/"+collection+"/search", map[string]any{"query": w, "mode": "words", "limit": 50}, &found, http.StatusOK); err != nil {
			errs = append(errs, err)
			continue
		}
		n := 0
		for _, h := range found.Hits {
			if h.Document == id {
				n++
			}
		}
		if n != 1 {
			errs = append(errs, amount(n, "document %s has %d passages with its word, want exactly one", id, n))
		}
	}
	for _, id := range l.deleted {
		if a, _, err := s.try(ctx, request{method: http.MethodGet, path: "/api/v1/collections/" + collection + "/documents/" + id}, s.AdminKey); err != nil || a.Status != http.StatusNotFound {
			errs = append(errs, lost("deleted document %s: %d %w", id, a.Status, err))
		}
	}
	return errors.Join(errs...)
}

type entry struct{ ID, Type, Subject string }

// verifyAudit waits until each acknowledged event is in the log, and counts: exactly once each, and one `indexed` per document.
func (l *ledger) verifyAudit(ctx context.Context, s *site) error {
	deadline := time.Now().Add(20*time.Second + s.patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		entries, err := events(ctx, s)
		if err != nil {
			return err
		}
		problem := l.compareAudit(entries)
		if problem == nil || time.Now().After(deadline) {
			return problem
		}
		<-tick.C
	}
}

func (l *ledger) compareAudit(entries []entry) error {
	byID, indexed := map[string]int{}, map[string]int{}
	for _, e := range entries {
		byID[e.ID]++
		if e.Type == "aran.search.document_indexed.v1" {
			indexed[e.Subject]++
		}
	}
	var errs []error
	for id, n := range byID {
		if n != 1 {
			errs = append(errs, twice("event %s is %d times in the log", id, n))
		}
	}
	for _, id := range l.audit {
		if byID[id] != 1 {
			errs = append(errs, amount(byID[id], "acknowledged event %s is %d times in the log", id, byID[id]))
		}
	}
	for id := range l.documents {
		n := 0
		for subject, c := range indexed {
			if strings.Contains(subject, id) {
				n += c
			}
		}
		if n != 1 {
			errs = append(errs, amount(n, "document %s was indexed %d times according to the log", id, n))
		}
	}
	return errors.Join(errs...)
}

func events(ctx context.Context, s *site) (out []entry, err error) {
	cursor := ""
	for {
		var page struct {
			Events     []entry
			NextCursor string `json:"next_cursor"`
		}
		if err := call(ctx, s, http.MethodGet, "/api/v1/audit/events?limit=500&cursor="+url.QueryEscape(cursor), nil, &page, http.StatusOK); err != nil {
			return nil, err
		}
		out = append(out, page.Events...)
		if cursor = page.NextCursor; cursor == "" {
			return out, nil
		}
	}
}

// verifyNothingDead looks for events that no consumer could take.
func (l *ledger) verifyNothingDead(ctx context.Context, s *site) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.operator+"/services", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // read only
	var state struct {
		DeadLetters int `json:"dead_letters"`
	}
	if err := decode(res.Body, &state); err != nil {
		return err
	}
	if state.DeadLetters != 0 {
		return fmt.Errorf("%d dead letters", state.DeadLetters)
	}
	return nil
}

func auditVerify(ctx context.Context, s *site) error {
	if out, err := s.command(ctx, "audit", "verify", "--data", s.data()).CombinedOutput(); err != nil {
		return fmt.Errorf("aran audit verify: %w\n%s", err, out)
	}
	return nil
}

// finding is something that the platform owes: an acknowledged thing that is not there, or is there more than once.
type finding struct {
	error
	twice bool
}

func (f finding) Unwrap() error { return f.error }

func lost(format string, args ...any) error { return finding{fmt.Errorf(format, args...), false} }

func twice(format string, args ...any) error { return finding{fmt.Errorf(format, args...), true} }

// amount is a finding about something of which there are n instead of one.
func amount(n int, format string, args ...any) error {
	return finding{fmt.Errorf(format, args...), n > 1}
}

// count adds up the findings in an error.
func count(err error) (lost, twice int) {
	switch e := err.(type) { //nolint:errorlint // it walks the tree itself
	case nil:
	case finding:
		if e.twice {
			return 0, 1
		}
		return 1, 0
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			l, t := count(inner)
			lost, twice = lost+l, twice+t
		}
	case interface{ Unwrap() error }:
		return count(e.Unwrap())
	}
	return lost, twice
}
