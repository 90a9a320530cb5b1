// Package recommend ranks items for a user from what people did with them.
//
// This rung of it ranks by popularity, which fades: what was done d days ago counts 2^(-d/h), with h the half-life in
// days. A tenant without interactions gets what its editors picked, else its newest items, and the answer says so. It
// recommends only items that are in the tenant's catalogue and available, and it never stores who a user is: a user is a
// random pseudonym (platform/seal), and erasing the user leaves the counts as if they had never been there.
//
// The sum over all days is kept up to date without going over them again (forward decay: Cormode, Shkapenyuk, Srivastava
// and Xu, "Forward Decay: A Practical Time Decay Model for Streaming Systems", ICDE 2009, §3). With a landmark day L,
//
//	Σ w·2^(-(now-d)/h)  =  2^(-(now-L)/h) · Σ w·2^((d-L)/h)
//
// and the second sum S does not depend on now: an interaction adds w·2^((d-L)/h) to it once, and at any later time items
// rank by S. Before 2^((d-L)/h) gets too large for a float64, L moves forward and S is made again from daily sums,
// which are whole numbers. One user adds to an item at most once for each type and day, so over all time at most
// Σ|w| / (1-2^(-1/h)), and that however often they act and whatever times they claim.
package recommend

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/seal"
	"aran/platform/store"
	"aran/platform/watch"
)

// Migrations make the tables.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Rungs say what ranked.
const (
	RungPopularity = "popularity"
	RungEditorial  = "editorial"
)

// What became of an interaction.
const (
	Recorded = "recorded" // it counts
	Repeated = "repeated" // it was recorded before, or the same user did the same with the item on that day
)

const (
	maxUser     = 256 // bytes
	maxTitle    = 512
	maxName     = 64
	maxValue    = 256
	maxMetadata = 32
	maxRank     = 1_000_000
	maxAhead    = 5 * time.Minute // clocks differ
	segmentOf   = "metadata."
)

var (
	itemID       = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)
	metadataName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
)

// Item is what can be recommended.
type Item struct {
	ID, Title        string
	Metadata         map[string]string
	Editorial        int64 // rank among the editors' picks, the first is 1; 0: not picked
	Available        bool
	Created, Updated time.Time
}

// Interaction is what a user did with an item.
type Interaction struct {
	ID               string // the client's own, makes it safe to send again; may be empty
	User, Item, Type string
	Weight           float64   // in place of the type's, without its sign; 0: the type's
	Time             time.Time // zero: now
}

// Outcome is what became of an interaction.
type Outcome struct {
	Status   string `json:"status"`             // Recorded or Repeated
	Unlisted bool   `json:"unlisted,omitempty"` // the item is not in the catalogue: not recommended until it is
}

// Query asks for a ranking.
type Query struct {
	User    string // empty: nobody in particular
	Limit   int
	Context string // empty, an item's id, or "metadata.<key>:<value>"
}

// Ranked is an item of an answer. Score is 0 to 1, to compare within the answer.
type Ranked struct {
	Item   string
	Score  float64
	Reason string
}

// Ranking is an answer.
type Ranking struct {
	Items       []Ranked
	Model, Rung string
}

// Deps is what the service stands on.
type Deps struct {
	DB     *store.DB
	Box    *seal.Box // pseudonyms of users
	Server rpc.Server
	Log    *slog.Logger
	Health *watch.Health
}

// Service ranks. Safe for concurrent use.
type Service struct {
	cfg     Config
	db      db
	box     *seal.Box
	log     *slog.Logger
	public  *rpc.Public
	model   string
	leftOut []string
	metrics metrics

	stop context.CancelFunc
	done sync.WaitGroup
}

type metrics struct {
	interactions, rankings metric.Int64Counter
	took                   metric.Float64Histogram
}

// New registers the routes. Nothing runs before Start.
func New(cfg Config, d Deps) (*Service, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, db: db{d.DB}, box: d.Box, log: d.Log, model: cfg.model(), leftOut: cfg.leftOut(), public: rpc.NewPublic(d.Server, "Recommendations")}
	if err := s.measure(); err != nil {
		return nil, fmt.Errorf("recommend metrics: %w", err)
	}
	s.routes()
	d.Health.Add("recommend: database", d.DB.Ping)
	return s, nil
}

func (s *Service) measure() (err error) {
	m := otel.Meter("aran/service/recommend")
	if s.metrics.interactions, err = m.Int64Counter("aran_recommend_interactions_total", metric.WithDescription("Interactions by outcome: recorded or repeated.")); err != nil {
		return err
	}
	if s.metrics.rankings, err = m.Int64Counter("aran_recommend_rankings_total", metric.WithDescription("Rankings by rung.")); err != nil {
		return err
	}
	s.metrics.took, err = m.Float64Histogram("aran_recommend_rank_seconds", metric.WithUnit("s"), metric.WithDescription("Time of a ranking, by rung."))
	return err
}

// Public serves REST.
func (s *Service) Public() *rpc.Public { return s.public }

// Start brings scores to the half-life of the settings, and begins to delete what is too old.
func (s *Service) Start(ctx context.Context) error {
	if err := s.db.rescale(ctx, s.cfg.HalfLife, today()); err != nil {
		return fmt.Errorf("recommend: bring scores to the half-life: %w", err)
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.done.Go(func() { s.tidy(life) })
	return nil
}

// Stop ends the deletions.
func (s *Service) Stop(ctx context.Context) error {
	if s.stop == nil {
		return nil
	}
	s.stop()
	done := make(chan struct{})
	go func() { s.done.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop recommend: %w", ctx.Err())
	}
}

const tidyEvery = time.Hour

// tidy deletes what is older than the settings keep.
func (s *Service) tidy(ctx context.Context) {
	t := time.NewTicker(tidyEvery)
	defer t.Stop()
	for {
		err := s.Tidy(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "old interactions not deleted", slog.String("error", err.Error()))
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Tidy deletes interactions that are older than the settings keep, and takes them out of the counts.
func (s *Service) Tidy(ctx context.Context) error { return s.db.expire(ctx, s.oldest()) }

// oldest is the first day that is kept.
func (s *Service) oldest() int64 { return today() - int64(s.cfg.Keep/day) }

// PutItems adds or replaces items of the caller's tenant, all or none. key makes it safe to repeat; it may be empty.
func (s *Service) PutItems(ctx context.Context, items []Item, key string) ([]Item, error) {
	for i, x := range items {
		if err := checkItem(x); err != nil {
			return nil, at(err, i, len(items))
		}
	}
	id := auth.From(ctx)
	out, err := s.db.putItems(ctx, id.Tenant, items, s.cfg, write{id.Tenant + "/" + id.Subject + "/items", key})
	if err == nil {
		fault.Point("recommend.items_stored")
	}
	return out, err
}

// Item returns one.
func (s *Service) Item(ctx context.Context, id string) (Item, error) {
	return s.db.item(ctx, auth.From(ctx).Tenant, id)
}

// Items lists items by id, after an id.
func (s *Service) Items(ctx context.Context, after string, limit int) ([]Item, error) {
	return s.db.items(ctx, auth.From(ctx).Tenant, after, limit)
}

// DeleteItem takes an item out of the catalogue; from then on it is not recommended. What users did with it stays with
// the users.
func (s *Service) DeleteItem(ctx context.Context, id string) error {
	err := s.db.deleteItem(ctx, auth.From(ctx).Tenant, id)
	if err == nil {
		fault.Point("recommend.item_deleted")
	}
	return err
}

// Record keeps interactions, all or none, and counts them. key makes it safe to repeat; it may be empty.
func (s *Service) Record(ctx context.Context, list []Interaction, key string) ([]Outcome, error) {
	now := time.Now()
	rows := make([]interaction, len(list))
	for i, x := range list {
		r, err := s.check(x, now)
		if err != nil {
			return nil, at(err, i, len(list))
		}
		rows[i] = r
	}
	id := auth.From(ctx)
	for range maxTries {
		people, err := s.people(ctx, id.Tenant, list)
		if err != nil {
			return nil, err
		}
		for i, x := range list {
			rows[i].person = people[x.User].name
			rows[i].ref = refOf(people[x.User].name, x.ID)
		}
		out, err := s.db.record(ctx, id.Tenant, rows, s.cfg, write{id.Tenant + "/" + id.Subject + "/interactions", key}, now)
		if gone, ok := errors.AsType[goneError](err); ok {
			if err := s.finish(ctx, people, gone); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		fault.Point("recommend.interactions_recorded")
		for _, o := range out {
			s.metrics.interactions.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", o.Status)))
		}
		return out, nil
	}
	return nil, fault.New(fault.Unavailable, "erased_meanwhile", "A user is being erased at this moment; try again.").After(time.Second)
}

// maxTries is how often a user may be erased while their interactions are on their way.
const maxTries = 4

// check holds an interaction against the rules.
func (s *Service) check(x Interaction, now time.Time) (interaction, error) {
	if err := checkUser(x.User); err != nil {
		return interaction{}, err
	}
	if !itemID.MatchString(x.Item) || strings.HasPrefix(x.Item, segmentOf) {
		return interaction{}, errItemID("item")
	}
	if len(x.ID) > maxUser || !plain(x.ID) {
		return interaction{}, invalid("id", fmt.Sprintf("takes up to %d bytes of UTF-8 without control characters", maxUser))
	}
	w, ok := s.cfg.Types[x.Type]
	if !ok {
		return interaction{}, invalid("type", "is not one of "+strings.Join(s.types(), ", "))
	}
	if x.Weight != 0 {
		if !(x.Weight >= 1.0/milli && x.Weight <= s.cfg.MaxWeight) {
			return interaction{}, invalid("weight", fmt.Sprintf("is %v; use 0.001 to %v", x.Weight, s.cfg.MaxWeight))
		}
		w = math.Copysign(x.Weight, w)
	}
	said := int64(0)
	if x.Time.IsZero() {
		x.Time = now
	} else {
		said = x.Time.UnixMicro()
	}
	if x.Time.After(now.Add(maxAhead)) {
		return interaction{}, invalid("time", "is in the future")
	}
	d := dayOf(x.Time)
	if d < s.oldest() {
		return interaction{}, invalid("time", fmt.Sprintf("is longer ago than interactions are kept (%d days; recommend.keep)", int64(s.cfg.Keep/day)))
	}
	return interaction{item: x.Item, kind: x.Type, day: d, weight: int64(math.Round(w * milli)), at: x.Time.UnixMicro(), said: said}, nil
}

func (s *Service) types() (out []string) {
	for name := range s.cfg.Types {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Rank answers with the items that suit best, and records that it did.
func (s *Service) Rank(ctx context.Context, q Query) (Ranking, error) {
	begin := time.Now()
	sel, err := s.selection(ctx, q)
	if err != nil {
		return Ranking{}, err
	}
	popular, err := s.db.popular(ctx, sel, q.Limit+ties)
	if err != nil {
		return Ranking{}, err
	}
	r := Ranking{Items: scored(popular, sel), Model: s.model, Rung: RungPopularity}
	if len(r.Items) == 0 {
		r.Rung = RungEditorial
	}
	if len(r.Items) < q.Limit {
		if r.Items, err = s.fill(ctx, sel, r); err != nil {
			return Ranking{}, err
		}
	}
	if err := s.db.ranked(ctx, auth.From(ctx), sel.person, s.event(ctx, q, r)); err != nil {
		return Ranking{}, fmt.Errorf("record the ranking: %w", err)
	}
	fault.Point("recommend.ranked")
	rung := metric.WithAttributes(attribute.String("rung", r.Rung))
	s.metrics.rankings.Add(ctx, 1, rung)
	s.metrics.took.Record(ctx, time.Since(begin).Seconds(), rung)
	return r, nil
}

// selection says among which items a query chooses.
func (s *Service) selection(ctx context.Context, q Query) (selection, error) {
	sel := selection{tenant: auth.From(ctx).Tenant, leftOut: s.leftOut, limit: q.Limit}
	if q.User != "" {
		if err := checkUser(q.User); err != nil {
			return sel, err
		}
		p, err := s.known(ctx, sel.tenant, q.User)
		if err != nil {
			return sel, err
		}
		sel.person = p.name
	}
	segment, isSegment := strings.CutPrefix(q.Context, segmentOf)
	switch {
	case q.Context == "":
	case isSegment:
		name, value, ok := strings.Cut(segment, ":")
		if !ok || !metadataName.MatchString(name) || len(value) == 0 || len(value) > maxValue || !plain(value) {
			return sel, invalid("context", "is not metadata.<key>:<value>")
		}
		sel.name, sel.value = name, value
	case itemID.MatchString(q.Context):
		sel.except = q.Context
	default:
		return sel, invalid("context", "is neither an item's id nor metadata.<key>:<value>")
	}
	return sel, nil
}

// ties is how many more are read than asked for, so that ids decide among equals at the end of the list too.
const ties = 32

// scored brings scores to 0..1, in millionths, so that sums that differ by the order of their parts only do not decide,
// but the id.
func scored(popular []found, sel selection) []Ranked {
	out := []Ranked{}
	reason := "popular"
	if sel.name != "" {
		reason = "popular among " + sel.name + ":" + sel.value
	}
	for _, f := range popular {
		out = append(out, Ranked{f.item, math.Round(1e6*f.score/popular[0].score) / 1e6, reason})
	}
	slices.SortStableFunc(out, func(a, b Ranked) int {
		if a.Score != b.Score {
			return int(math.Copysign(1, b.Score-a.Score))
		}
		return strings.Compare(a.Item, b.Item)
	})
	return out[:min(len(out), sel.limit)]
}

// fill adds the editors' picks and then the newest items. Where they are all there is, a pick's score is 1/place, else 0.
func (s *Service) fill(ctx context.Context, sel selection, r Ranking) ([]Ranked, error) {
	out, have := r.Items, map[string]bool{}
	for _, x := range out {
		have[x.Item] = true
	}
	add := func(list []found, reason string, score func(place int) float64) {
		for _, f := range list {
			if len(out) < sel.limit && !have[f.item] {
				have[f.item] = true
				out = append(out, Ranked{f.item, score(len(out) + 1), reason})
			}
		}
	}
	picks, err := s.db.picks(ctx, sel, sel.limit+len(out)) // as many may be there already
	if err != nil {
		return nil, err
	}
	add(picks, "editorial", func(place int) float64 {
		if r.Rung == RungEditorial {
			return math.Round(1e6/float64(place)) / 1e6
		}
		return 0
	})
	if len(out) == sel.limit {
		return out, nil
	}
	newest, err := s.db.newest(ctx, sel, sel.limit+len(out))
	if err != nil {
		return nil, err
	}
	add(newest, "new", func(int) float64 { return 0 })
	return out, nil
}

func (s *Service) event(ctx context.Context, q Query, r Ranking) RankedEvent {
	e := RankedEvent{RequestID: rpc.RequestID(ctx), Model: r.Model, Rung: r.Rung, Items: []string{}}
	for _, x := range r.Items {
		e.Items = append(e.Items, x.Item)
	}
	if q.Context != "" {
		sum := sha256.Sum256([]byte(q.Context))
		e.ContextDigest = hex.EncodeToString(sum[:])
	}
	return e
}

func checkUser(user string) error {
	if user == "" || len(user) > maxUser || !plain(user) {
		return invalid("user", fmt.Sprintf("takes 1 to %d bytes of UTF-8 without control characters", maxUser))
	}
	return nil
}

func checkItem(x Item) error {
	switch {
	case !itemID.MatchString(x.ID) || strings.HasPrefix(x.ID, segmentOf):
		return errItemID("id")
	case len(x.Title) > maxTitle || !plain(x.Title):
		return invalid("title", fmt.Sprintf("takes up to %d bytes of UTF-8 without control characters", maxTitle))
	case x.Editorial < 0 || x.Editorial > maxRank:
		return invalid("editorial", fmt.Sprintf("is %d; use 1 to %d, the first is 1, or leave it out", x.Editorial, maxRank))
	case len(x.Metadata) > maxMetadata:
		return invalid("metadata", fmt.Sprintf("has %d entries; at most %d are taken", len(x.Metadata), maxMetadata))
	}
	for k, v := range x.Metadata {
		if !metadataName.MatchString(k) {
			return invalid("metadata", fmt.Sprintf("has a key that is not of letters, digits and . _ - (up to %d)", maxName))
		}
		if v == "" || len(v) > maxValue || !plain(v) {
			return invalid("metadata."+k, fmt.Sprintf("takes 1 to %d bytes of UTF-8 without control characters", maxValue))
		}
	}
	return nil
}

func errItemID(field string) error {
	return invalid(field, "is not 1 to 128 letters, digits and . _ : -, beginning with a letter or digit, and not with \""+segmentOf+"\"")
}

// plain reports whether a text is UTF-8 without control characters.
func plain(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) }

func invalid(field, what string) error {
	f := fault.New(fault.Invalid, "invalid", "The field %q %s.", field, what)
	f.Fields = []fault.Field{{Path: field, Message: what}}
	return f
}

// at says which of several is wrong.
func at(err error, i, of int) error {
	f := fault.From(err)
	if of == 1 || f == nil {
		return err
	}
	c := *f
	c.Detail = fmt.Sprintf("Entry %d: %s Nothing was stored.", i, f.Detail)
	c.Fields = slices.Clone(f.Fields)
	for j := range c.Fields {
		c.Fields[j].Path = fmt.Sprintf("[%d].%s", i, c.Fields[j].Path)
	}
	return &c
}

func dayOf(t time.Time) int64 { return t.Unix() / int64(day/time.Second) }

func today() int64 { return dayOf(time.Now()) }
