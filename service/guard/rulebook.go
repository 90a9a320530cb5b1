package guard

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"aran/platform/auth"
	"aran/platform/cache"
	"aran/platform/fault"
	"aran/service/guard/detect"
	"aran/service/guard/outgoing"
	"aran/service/guard/policy"
)

// The tenant's own policy.
const policyDefault = "default"

// Version is a policy as it was stored. It never changes.
type Version struct {
	Policy      string
	Version     int64
	Document    policy.Policy
	Collections []string // whose texts it holds for; those of the policy `default` are all
	Digest      string   // SHA-256 of the document, hex
	Note        string
	Made        time.Time
	By          string
}

func (v Version) id() string { return v.Policy + "@" + strconv.FormatInt(v.Version, 10) }

// Head says which versions of a policy are in use. Version 0 is none.
type Head struct {
	Policy                string
	Active, Trial, Latest int64
	Revision              int64 // counts changes: the ETag
	Changed               time.Time
	By                    string
}

// rulebook is what holds for some request: policies combined, and what is spared.
type rulebook struct {
	name    string
	policy  policy.Policy
	parts   []part
	spare   []Spared
	floor   policy.Policy
	trial   *rulebook // the same with versions on trial in their places; nil when there are none
	tenant  string
	pinning func(value string) string

	compile sync.Once
	bounds  map[string]*outgoing.Boundaries // by the side on which they hold
}

// limits are the boundaries that hold on a side. Patterns that do not compile can't get into a policy.
func (b *rulebook) limits(side string) *outgoing.Boundaries {
	b.compile.Do(func() {
		b.bounds = map[string]*outgoing.Boundaries{}
		for _, on := range []string{policy.OnInput, policy.OnOutput} {
			var list []outgoing.Boundary
			for _, x := range b.policy.Boundaries {
				if x.Holds(on) {
					list = append(list, outgoing.Boundary{Name: x.Name, Phrases: x.Phrases, Patterns: x.Patterns})
				}
			}
			if len(list) > 0 {
				b.bounds[on], _ = outgoing.Compile(list)
			}
		}
	})
	return b.bounds[side]
}

type part struct {
	name   string
	policy policy.Policy
}

// by names the policy that decided, or all of them.
func (b *rulebook) by(r ruling, origin detect.Origin) string {
	if len(b.parts) == 1 {
		return b.name
	}
	for _, p := range b.parts {
		t := thresholdOf(p.policy, origin)
		if r.bar > 0 && (t.Block == r.bar || t.Flag == r.bar) || r.decided != nil && sideOf(p.policy, origin).For(r.decided.Kind) == r.verdict {
			return p.name
		}
	}
	return b.name
}

// holds reports whether an entry of the allow-list belongs to one of the policies.
func (b *rulebook) holds(e Spared) bool {
	return e.Policy == "" || slices.ContainsFunc(b.parts, func(p part) bool { return strings.HasPrefix(p.name, e.Policy+"@") })
}

// hosts are those that links may point to now.
func (b *rulebook) hosts(now time.Time) []string {
	out := b.policy.AllowHosts
	for _, e := range b.spare {
		if e.Kind == SpareHost && e.Expires.After(now) && (b.floor.AllowHosts == nil || b.floor.Host(e.Value)) {
			out = append(slices.Clone(out), e.Value)
		}
	}
	return out
}

// tenantRules is what a tenant has set, as it was at some change.
type tenantRules struct {
	change   int64
	heads    map[string]Head
	versions map[string]Version // those in use, by id
	spare    []Spared
	pinning  func(value string) string
}

// shelf keeps tenants' rules in memory. It asks the database once a second whether they changed, so that every replica follows.
type shelf struct {
	base, floor policy.Policy
	read        func(ctx context.Context, tenant string, known int64) (*tenantRules, error)

	tenants *cache.Cache[string, *shelved]
}

type shelved struct {
	mu      sync.Mutex
	rules   *tenantRules
	checked time.Time
	books   map[string]*rulebook
}

const (
	shelfTenants = 4096
	shelfFor     = time.Hour
	shelfBooks   = 256              // combinations of collections of a tenant
	recheck      = time.Second      // how old what is known may be
	trustFor     = 30 * time.Second // and while the database is away
)

func newShelf(cfg Config, read func(ctx context.Context, tenant string, known int64) (*tenantRules, error)) *shelf {
	return &shelf{base: cfg.Policy, floor: cfg.Floor, read: read, tenants: cache.New[string, *shelved](shelfTenants, shelfFor)}
}

// forget makes the next request of a tenant read again.
func (s *shelf) forget(tenant string) { s.tenants.Delete(tenant) }

func (s *shelf) of(tenant string) *shelved {
	if h, ok := s.tenants.Get(tenant); ok {
		return h
	}
	h := &shelved{}
	s.tenants.Put(tenant, h)
	return h
}

// book combines what holds for some collections of a tenant.
func (s *shelf) book(ctx context.Context, tenant string, collections []string) (*rulebook, error) {
	h := s.of(tenant)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.refresh(ctx, s, tenant); err != nil {
		return nil, err
	}
	key := ""
	if len(collections) > 0 {
		key = strings.Join(slices.Compact(slices.Sorted(slices.Values(collections))), "\x00")
	}
	if b := h.books[key]; b != nil {
		return b, nil
	}
	b := s.combine(tenant, h.rules, collections, func(x Head) int64 { return x.Active })
	trial := s.combine(tenant, h.rules, collections, func(x Head) int64 { return cmp.Or(x.Trial, x.Active) })
	if trial.name != b.name {
		b.trial = trial
	}
	if len(h.books) >= shelfBooks {
		h.books = map[string]*rulebook{}
	}
	h.books[key] = b
	return b, nil
}

func (h *shelved) refresh(ctx context.Context, s *shelf, tenant string) error {
	now := time.Now()
	if h.rules != nil && now.Sub(h.checked) < recheck {
		return nil
	}
	known := int64(-1)
	if h.rules != nil {
		known = h.rules.change
	}
	fresh, err := s.read(ctx, tenant, known)
	if err != nil {
		if h.rules != nil && now.Sub(h.checked) < trustFor {
			return nil // what was known holds on for a little
		}
		return fmt.Errorf("read policies: %w", err)
	}
	h.checked = now
	if fresh != nil {
		h.rules, h.books = fresh, map[string]*rulebook{}
	}
	return nil
}

// combine takes a version of each policy that holds: the tenant's own, and those of the collections, with the floor.
func (s *shelf) combine(tenant string, rules *tenantRules, collections []string, pick func(Head) int64) *rulebook {
	var chosen []Version
	for _, name := range sortedNames(rules.heads) {
		n := pick(rules.heads[name])
		if n == 0 {
			continue
		}
		v := rules.versions[Version{Policy: name, Version: n}.id()]
		if name == policyDefault || slices.ContainsFunc(v.Collections, func(c string) bool { return slices.Contains(collections, c) }) {
			chosen = append(chosen, v)
		}
	}
	return s.bind(tenant, rules, chosen)
}

// bind makes a rulebook of versions; where none is the tenant's own, the operator's policy stands for it.
func (s *shelf) bind(tenant string, rules *tenantRules, chosen []Version) *rulebook {
	own := Version{Policy: policyDefault}
	var names []string
	for _, v := range chosen {
		if v.Policy == policyDefault {
			own = v
		}
	}
	b := &rulebook{tenant: tenant, floor: s.floor, pinning: rules.pinning, policy: own.Document.Over(s.base)}
	b.parts = append(b.parts, part{own.id(), b.policy})
	names = append(names, own.id())
	for _, v := range chosen {
		if v.Policy != policyDefault {
			b.policy = policy.Strictest(b.policy, v.Document)
			b.parts, names = append(b.parts, part{v.id(), v.Document}), append(names, v.id())
		}
	}
	b.policy = policy.Strictest(b.policy, s.floor)
	b.name = strings.Join(names, "+")
	for _, e := range rules.spare {
		if b.holds(e) {
			b.spare = append(b.spare, e)
		}
	}
	return b
}

func sortedNames(heads map[string]Head) []string {
	out := make([]string, 0, len(heads))
	for name := range heads {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// rulebook is what holds for a job of the caller's tenant.
func (s *Service) rulebook(ctx context.Context, job Job) (*rulebook, error) {
	tenant := auth.From(ctx).Tenant
	book, err := s.policies.book(ctx, tenant, job.Collections)
	if err != nil || job.Policy == "" {
		return book, err
	}
	v, err := s.named(ctx, tenant, job.Policy)
	if err != nil {
		return nil, err
	}
	return s.with(ctx, tenant, job.Collections, v, !job.Dry)
}

// named finds a policy by its name, or by name@version.
func (s *Service) named(ctx context.Context, tenant, name string) (Version, error) {
	name, number, numbered := strings.Cut(name, "@")
	var n int64
	if numbered {
		var err error
		if n, err = strconv.ParseInt(number, 10, 64); err != nil || n < 1 {
			return Version{}, fault.New(fault.Invalid, "invalid", "The policy is named as support or support@7, not with version %.40q.", number)
		}
	} else {
		head, err := s.head(ctx, s.db, tenant, name)
		if err != nil {
			return Version{}, err
		}
		if n = head.Active; n == 0 {
			return Version{}, fault.New(fault.Conflict, "policy_inactive", "No version of the policy %q is active; name one as %s@%d.", name, name, head.Latest)
		}
	}
	return s.version(ctx, s.db, tenant, name, n)
}

// with is what would hold with a version in the place of its policy's active one. With added, the active one holds too: a request
// can make what holds for it stricter, never looser.
func (s *Service) with(ctx context.Context, tenant string, collections []string, v Version, added bool) (*rulebook, error) { //nolint:revive // a fact about the request
	h := s.policies.of(tenant)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.refresh(ctx, s.policies, tenant); err != nil {
		return nil, err
	}
	now := s.policies.combine(tenant, h.rules, collections, func(x Head) int64 { return x.Active })
	var chosen []Version
	for _, p := range now.parts {
		if active, ok := h.rules.versions[p.name]; ok && active.Policy != v.Policy {
			chosen = append(chosen, active)
		}
	}
	b := s.policies.bind(tenant, h.rules, append(chosen, v))
	if added && !slices.ContainsFunc(now.parts, func(p part) bool { return p.name == v.id() }) {
		b.policy = policy.Strictest(now.policy, b.policy)
		b.name, b.parts = now.name+"+"+v.id(), append(slices.Clone(now.parts), part{v.id(), v.Document})
	}
	return b, nil
}
