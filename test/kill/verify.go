package kill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"aran/test/harness"
)

// verify compares a restarted platform with the ledger and returns everything that does not fit.
func (l *ledger) verify(ctx context.Context, p *harness.Process, binary string) error {
	return errors.Join(l.verifyKeys(ctx, p), l.verifyDocuments(ctx, p), l.verifyAudit(ctx, p), l.verifyNothingDead(ctx, p), auditVerify(ctx, p, binary))
}

func (l *ledger) verifyKeys(ctx context.Context, p *harness.Process) error {
	var errs []error
	for id, key := range l.keys {
		if a, err := p.Call(ctx, http.MethodGet, "/v1/models", key, nil); err != nil || a.Status != http.StatusOK {
			errs = append(errs, fmt.Errorf("acknowledged key %s: %d %w", id, a.Status, err))
		}
	}
	for id, key := range l.revoked {
		if a, err := p.Call(ctx, http.MethodGet, "/v1/models", key, nil); err != nil || a.Status != http.StatusUnauthorized {
			errs = append(errs, fmt.Errorf("revoked key %s: %d %w", id, a.Status, err))
		}
	}
	for _, mail := range l.accounts {
		if a, err := p.Call(ctx, http.MethodPost, "/api/v1/sessions", "", map[string]string{"email": mail, "password": "correct horse battery"}); err != nil || a.Status != http.StatusCreated {
			errs = append(errs, fmt.Errorf("acknowledged account %s: %d %w", mail, a.Status, err))
		}
	}
	return errors.Join(errs...)
}

func (l *ledger) verifyDocuments(ctx context.Context, p *harness.Process) error {
	var errs []error
	for id, w := range l.documents {
		if err := l.awaitIndexed(ctx, p, id); err != nil {
			errs = append(errs, fmt.Errorf("acknowledged document: %w", err))
			continue
		}
		var found struct {
			Hits []struct{ Document, Chunk string }
		}
		if err := call(ctx, p, http.MethodPost, "/api/v1/collections/"+collection+"/search", map[string]any{"query": w, "mode": "words", "limit": 50}, &found, http.StatusOK); err != nil {
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
			errs = append(errs, fmt.Errorf("document %s has %d passages with its word, want exactly one", id, n))
		}
	}
	for _, id := range l.deleted {
		if a, err := p.Call(ctx, http.MethodGet, "/api/v1/collections/"+collection+"/documents/"+id, p.AdminKey, nil); err != nil || a.Status != http.StatusNotFound {
			errs = append(errs, fmt.Errorf("deleted document %s: %d %w", id, a.Status, err))
		}
	}
	return errors.Join(errs...)
}

type entry struct{ ID, Type, Subject string }

// verifyAudit waits until each acknowledged event is in the log, and counts: exactly once each, and one `indexed` per document.
func (l *ledger) verifyAudit(ctx context.Context, p *harness.Process) error {
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		entries, err := events(ctx, p)
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
			errs = append(errs, fmt.Errorf("event %s is %d times in the log", id, n))
		}
	}
	for _, id := range l.audit {
		if byID[id] != 1 {
			errs = append(errs, fmt.Errorf("acknowledged event %s is %d times in the log", id, byID[id]))
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
			errs = append(errs, fmt.Errorf("document %s was indexed %d times according to the log", id, n))
		}
	}
	return errors.Join(errs...)
}

func events(ctx context.Context, p *harness.Process) (out []entry, err error) {
	cursor := ""
	for {
		var page struct {
			Events     []entry
			NextCursor string `json:"next_cursor"`
		}
		if err := call(ctx, p, http.MethodGet, "/api/v1/audit/events?limit=500&cursor="+url.QueryEscape(cursor), nil, &page, http.StatusOK); err != nil {
			return nil, err
		}
		out = append(out, page.Events...)
		if cursor = page.NextCursor; cursor == "" {
			return out, nil
		}
	}
}

// verifyNothingDead looks for events that no consumer could take.
func (l *ledger) verifyNothingDead(ctx context.Context, p *harness.Process) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Operator+"/services", nil)
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

func auditVerify(ctx context.Context, p *harness.Process, binary string) error {
	if out, err := exec.CommandContext(ctx, binary, "audit", "verify", "--data", p.Data).CombinedOutput(); err != nil { //nolint:gosec // our own binary
		return fmt.Errorf("aran audit verify: %w\n%s", err, out)
	}
	return nil
}
