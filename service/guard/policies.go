package guard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/service/guard/detect"
	"aran/service/guard/outgoing"
	"aran/service/guard/policy"
)

// What becomes of a version when it is stored or chosen.
const (
	Active = "active"
	Draft  = "draft"
	Trial  = "dry_run" // evaluated beside the active one; what it would have done is kept
)

const (
	maxPolicies    = 100  // of a tenant
	maxVersions    = 1000 // of a policy; the oldest that are not in use go first
	maxCollections = 64   // that a policy holds for
)

var policyName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// Proposal is a policy to be stored.
type Proposal struct {
	Policy      string
	Document    policy.Policy
	Collections []string
	Note        string
	As          string // Active, Draft or Trial
	Revision    int64  // the one that the caller has read; -1: whichever, 0: there is none yet
}

// invalidPolicy turns what the document's check says into a fault that names the field.
func invalidPolicy(err error) error {
	f := fault.New(fault.Invalid, "invalid_policy", "The policy can't be used.")
	if e, ok := errors.AsType[*policy.Error](err); ok {
		f.Fields = []fault.Field{{Path: "policy." + e.Field, Message: e.Why}}
		return f
	}
	return f.Because(err)
}

func (s *Service) checkProposal(p Proposal) error {
	invalid := func(field, message string) error {
		f := fault.New(fault.Invalid, "invalid_policy", "The policy can't be used.")
		f.Fields = []fault.Field{{Path: field, Message: message}}
		return f
	}
	if !policyName.MatchString(p.Policy) {
		return invalid("name", "use lower-case letters, digits, dots, dashes and underscores")
	}
	if err := p.Document.Check(); err != nil {
		return invalidPolicy(err)
	}
	if err := outgoing.CheckSchemas(p.Document); err != nil {
		return invalidPolicy(err)
	}
	switch {
	case p.Policy == policyDefault && len(p.Collections) > 0:
		return invalid("collections", "the policy default holds for everything; name collections in another policy")
	case p.Policy != policyDefault && len(p.Collections) == 0:
		return invalid("collections", "say whose texts it holds for; only the policy default needs no collections")
	case len(p.Collections) > maxCollections:
		return invalid("collections", fmt.Sprintf("at most %d", maxCollections))
	case len(p.Note) > 500:
		return invalid("note", "at most 500 bytes")
	}
	for _, c := range p.Collections {
		if c == "" || len(c) > 100 {
			return invalid("collections", "a name has 1 to 100 bytes")
		}
	}
	if loose := policy.Looser(p.Document, s.cfg.Floor); len(loose) > 0 {
		f := fault.New(fault.Denied, "below_floor", "The operator requires more than this policy does.")
		for _, field := range loose {
			f.Fields = append(f.Fields, fault.Field{Path: "policy." + field, Rule: "floor", Message: "is looser than the operator's floor"})
		}
		return f
	}
	return nil
}

// PutPolicy stores a version of a policy of the caller's tenant, and puts it to use as the proposal says. What the latest version
// says already is not stored again.
func (s *Service) PutPolicy(ctx context.Context, p Proposal) (Head, Version, error) {
	if err := s.checkProposal(p); err != nil {
		return Head{}, Version{}, err
	}
	id := auth.From(ctx)
	text, err := json.Marshal(p.Document)
	if err != nil {
		return Head{}, Version{}, fmt.Errorf("write policy: %w", err)
	}
	if len(text) > policy.MaxDocument {
		return Head{}, Version{}, fault.New(fault.TooLarge, "policy_too_large", "The policy has %d bytes; at most %d are taken.", len(text), policy.MaxDocument)
	}
	p.Collections = slices.Compact(slices.Sorted(slices.Values(p.Collections)))
	sum := sha256.Sum256(append(append(text, 0), strings.Join(p.Collections, "\x00")...))
	v := Version{Policy: p.Policy, Document: p.Document, Collections: p.Collections, Digest: hex.EncodeToString(sum[:]), Note: p.Note, Made: time.Now().Truncate(time.Microsecond), By: id.Subject}
	head, v, err := s.storePolicy(ctx, id, v, string(text), p)
	if err != nil {
		return Head{}, Version{}, err
	}
	s.policies.forget(id.Tenant)
	return head, v, nil
}

// Activate puts a version of a policy to use: as Active or on Trial. Version 0 ends that use.
func (s *Service) Activate(ctx context.Context, name string, version int64, as string, revision int64) (Head, error) {
	id := auth.From(ctx)
	if version > 0 {
		v, err := s.version(ctx, s.db, id.Tenant, name, version)
		if err != nil {
			return Head{}, err
		}
		p := Proposal{Policy: name, Document: v.Document, Collections: v.Collections}
		if err := s.checkProposal(p); err != nil { // the floor may have risen since
			return Head{}, err
		}
	}
	head, err := s.choose(ctx, id, name, version, as, revision)
	if err != nil {
		return Head{}, err
	}
	s.policies.forget(id.Tenant)
	return head, nil
}

// Policy shows a policy of the caller's tenant: a version of it (0: the active one, or else the latest), and what it makes of the
// operator's policy and floor.
func (s *Service) Policy(ctx context.Context, name string, version int64) (Head, Version, policy.Policy, error) {
	tenant := auth.From(ctx).Tenant
	head, err := s.head(ctx, s.db, tenant, name)
	if name == policyDefault && fault.KindOf(err) == fault.Missing && version == 0 {
		return Head{Policy: name}, Version{Policy: name, Collections: []string{}}, policy.Strictest(s.cfg.Policy, s.cfg.Floor), nil
	}
	if err != nil {
		return Head{}, Version{}, policy.Policy{}, err
	}
	if version == 0 {
		if version = head.Active; version == 0 {
			version = head.Latest
		}
	}
	v, err := s.version(ctx, s.db, tenant, name, version)
	if err != nil {
		return Head{}, Version{}, policy.Policy{}, err
	}
	book, err := s.with(ctx, tenant, v.Collections, v, false)
	if err != nil {
		return Head{}, Version{}, policy.Policy{}, err
	}
	return head, v, book.policy, nil
}

// DryRun says what the version on trial would have done differently since a time.
func (s *Service) DryRun(ctx context.Context, name string, since time.Time) (*Difference, error) {
	tenant := auth.From(ctx).Tenant
	head, err := s.head(ctx, s.db, tenant, name)
	if err != nil {
		return nil, err
	}
	if head.Trial == 0 {
		return nil, fault.New(fault.Conflict, "no_dry_run", "No version of the policy %q is on trial; store one with \"status\": \"dry_run\", or ask for a preview.", name)
	}
	on := Version{Policy: name, Version: head.Trial}.id()
	return s.difference(ctx, tenant, on, since, func(r Record) (string, bool) {
		return r.Trial, slices.Contains(strings.Split(r.TrialPolicy, "+"), on)
	})
}

// Preview says what a draft would have done differently since a time, by what is kept of the verdicts. It stores nothing.
// Boundaries, schemas, layers and hosts need the text and are not tried.
func (s *Service) Preview(ctx context.Context, p Proposal, since time.Time) (*Difference, error) {
	if err := s.checkProposal(p); err != nil {
		return nil, err
	}
	tenant := auth.From(ctx).Tenant
	draft := Version{Policy: p.Policy, Document: p.Document, Collections: p.Collections}
	spared, err := s.sparedNow(ctx, tenant)
	if err != nil {
		return nil, err
	}
	books := map[string]*rulebook{}
	var failed error
	d, err := s.difference(ctx, tenant, p.Policy+" (draft)", since, func(r Record) (string, bool) {
		if p.Policy != policyDefault && !slices.ContainsFunc(p.Collections, func(c string) bool { return slices.Contains(r.Collections, c) }) {
			return "", false
		}
		key := strings.Join(r.Collections, "\x00")
		book := books[key]
		if book == nil {
			if len(books) >= shelfBooks {
				clear(books)
			}
			if book, failed = s.with(ctx, tenant, r.Collections, draft, false); failed != nil {
				return "", false
			}
			books[key] = book
		}
		return replay(book, s.cfg.Floor, r, spared), true
	})
	return d, errors.Join(err, failed)
}

// replay is the verdict on a record under other rules, as far as it can be known without the text: of the allow-list, entries for
// texts and rules count.
func replay(book *rulebook, floor policy.Policy, r Record, list []Spared) string {
	o := r.observation()
	whole := slices.ContainsFunc(list, func(x Spared) bool { return x.Kind == SpareText && x.Value == r.Digest && book.holds(x) })
	spared := func(f detect.Finding) bool {
		return whole || slices.ContainsFunc(list, func(x Spared) bool {
			return x.Kind == SpareRule && (f.Rule == x.Value || strings.HasPrefix(f.Rule, x.Value+"+")) && book.holds(x)
		})
	}
	left := slices.DeleteFunc(slices.Clone(o.findings), spared)
	switch {
	case whole:
		o.score = 0
	case len(left) < len(o.findings):
		o.score = min(o.score, detect.Combine(left))
	}
	return rule(book.policy, floor, o, spared).verdict
}
