package guard

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"aran/platform/auth"
	"aran/platform/cache"
	"aran/platform/fault"
	"aran/platform/seal"
	"aran/platform/store"
	"aran/service/guard/detect"
	"aran/service/guard/pii"
	"aran/service/guard/policy"
	"aran/service/guard/pseudonym"
)

const (
	maxPairs       = 5000      // of a conversation
	maxRestored    = 1_000_000 // characters that RestoreRequest.text has at most
	racesAtMost    = 16        // between replicas, before the caller is asked to try again
	lifeEvery      = time.Hour
	tidyAtOnce     = 200
	mapsKept       = 256 // conversations whose pairs stay opened
	mapsKeptFor    = 30 * time.Second
	secretSize     = 32
	codeNoKeys     = "no_keys"
	codeTooMany    = "too_many_values"
	codeUnreplaced = "not_replaceable"
	codeGrown      = "result_too_long"
)

// errRaced says that another replica wrote the same conversation first.
var errRaced = errors.New("written meanwhile")

// errNoKeys is for a guard that was built without a key database.
func errNoKeys() error {
	return fault.New(fault.Unavailable, codeNoKeys, "Pseudonyms need a key database, and this guard has none.")
}

// Anonymized is a text with pseudonyms.
type Anonymized struct {
	Text     string
	Findings []detect.Finding // positions are into the text that was given
}

// vault keeps the pseudonyms of conversations, sealed with the key of whose they are.
type vault struct {
	db      *store.DB
	box     *seal.Box
	log     *slog.Logger
	ttl     time.Duration
	private pii.Options
	maps    *cache.Cache[string, opened]

	stop context.CancelFunc
	done sync.WaitGroup
}

func newVault(cfg Config, d Deps) *vault {
	return &vault{db: d.DB, box: d.Box, log: d.Log, ttl: cfg.PseudonymTTL, private: pii.Options{Names: true}, maps: cache.New[string, opened](mapsKept, mapsKeptFor)}
}

// opened is a conversation whose pairs are in the clear.
type opened struct {
	row   conversation
	key   []byte
	pairs *pseudonym.Map
}

// Pseudonymise is Anonymize for text on its way to a provider: only if the policy on the tenant and these collections asks for it.
// Else the texts stay as they are.
func (s *Service) Pseudonymise(ctx context.Context, name string, texts, collections []string) ([]Anonymized, error) {
	book, err := s.rulebook(ctx, Job{Collections: collections})
	if err != nil {
		return nil, err
	}
	if book.policy.Anonymise != policy.Never {
		return s.Anonymize(ctx, name, texts)
	}
	out := make([]Anonymized, len(texts))
	for i, t := range texts {
		out[i].Text = t
	}
	return out, nil
}

// Anonymize replaces personal data by pseudonyms of the caller's conversation, the same ones each time. What it replaced is on
// disk, sealed, when it returns; what it returns, Restore takes: a text that would be longer with its pseudonyms is refused
// (fault.TooLarge), and so are more values than a conversation may have (fault.Exhausted). Nobody but the same subject of the same tenant can restore it.
func (s *Service) Anonymize(ctx context.Context, name string, texts []string) ([]Anonymized, error) {
	found := make([][]detect.Finding, len(texts))
	for i, t := range texts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		found[i] = s.vault.private.Find(t)
	}
	for range racesAtMost {
		replaced, err := s.vault.anonymize(ctx, name, texts, found)
		if errors.Is(err, errRaced) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out := make([]Anonymized, len(texts))
		for i := range texts {
			out[i] = Anonymized{replaced[i], found[i]}
		}
		return out, nil
	}
	return nil, fault.New(fault.Unavailable, "busy_conversation", "This conversation is written from too many places at once; try again.").After(time.Second)
}

func (v *vault) anonymize(ctx context.Context, name string, texts []string, found [][]detect.Finding) ([]string, error) {
	o, err := v.open(ctx, name, true)
	if err != nil {
		return nil, err
	}
	replaced, fresh, err := o.pairs.Replace(o.key, texts, found, maxPairs)
	switch {
	case errors.Is(err, pseudonym.ErrFull):
		return nil, fault.New(fault.Exhausted, codeTooMany, "This conversation has %d values with pseudonyms, and may have no more; begin another one.", maxPairs)
	case err != nil:
		return nil, fault.New(fault.Conflict, codeUnreplaced, "No pseudonyms could be found that can be told from this text; begin another conversation.").Because(err)
	}
	for i, r := range replaced {
		if n := utf8.RuneCountInString(r); n > maxRestored {
			return nil, fault.New(fault.TooLarge, codeGrown, "Text %d has %d characters with pseudonyms, and at most %d can be restored; send it in parts.", i+1, n, maxRestored)
		}
	}
	until := time.Now().Add(v.ttl).UnixMicro()
	if len(fresh) == 0 && until-o.row.expires < lifeEvery.Microseconds() {
		return replaced, nil
	}
	sealed := make([][]byte, len(fresh))
	for i, p := range fresh {
		plain, err := json.Marshal(sealedPair{p.Kind, []byte(p.Value), p.Pseudonym})
		if err != nil {
			return nil, err
		}
		if sealed[i], err = v.box.Seal(ctx, ownerOf(ctx), plain, pairPlace(o.row.id, o.row.pairs+int64(i))); err != nil {
			return nil, err
		}
	}
	o.row.expires = until
	return replaced, v.growConversation(ctx, o.row, sealed)
}

// sealedPair keeps the value as bytes: JSON would change those that are no UTF-8.
type sealedPair struct {
	Kind      string `json:"k"`
	Value     []byte `json:"v"`
	Pseudonym string `json:"p"`
}

// Restore puts back what Anonymize replaced in the caller's conversation. Unless final, it holds back the end in which a pseudonym
// may have begun, which the caller sends again with what comes next. Pseudonyms of a conversation that is not known (any more),
// or whose subject was erased, stay in place.
func (s *Service) Restore(ctx context.Context, name, text string, final bool) (release, hold string, err error) {
	m, err := s.Pseudonyms(ctx, name)
	if err != nil {
		return "", "", err
	}
	release, hold = m.Restore(text, final)
	return release, hold, nil
}

// Pseudonyms returns those of the caller's conversation, as they are now; none when it is not known, expired, or erased. The map
// restores pieces of an answer, and tells which values were restored: they are the caller's own, and no leak.
func (s *Service) Pseudonyms(ctx context.Context, name string) (*pseudonym.Map, error) {
	o, err := s.vault.open(ctx, name, false)
	if f := fault.From(err); f != nil && (f.Code == seal.CodeErased || f.Code == codeNoKeys) {
		return pseudonym.New(nil), nil
	}
	if err != nil {
		return nil, err
	}
	return o.pairs, nil
}

// Erase forgets every conversation and every report of a subject and destroys the key that they were sealed with: what is left of them in a backup
// can't be read either. The subject can't have pseudonyms again. Erasing twice is no error.
func (s *Service) Erase(ctx context.Context, tenant, subject string) error {
	box := s.vault.box
	if box == nil {
		return errNoKeys()
	}
	if err := s.EraseReports(ctx, tenant, subject); err != nil {
		return err
	}
	who := tenant + "\x00" + subject
	owner, err := box.Known(ctx, who)
	if f := fault.From(err); f != nil && f.Code == seal.CodeErased {
		return box.Erase(ctx, who) // whoever repeats an erasure wants its traces gone, too
	}
	if err != nil {
		return err
	}
	if owner != "" {
		s.vault.maps.DeleteFunc(func(_ string, o opened) bool { return o.row.owner == owner })
		if err := s.vault.dropOwned(ctx, owner); err != nil {
			return fmt.Errorf("erase pseudonyms: %w", err)
		}
	}
	fault.Point("guard.pseudonyms_erased")
	return box.Erase(ctx, who)
}

// ownerOf names the caller to the key database, which keeps a keyed hash of it.
func ownerOf(ctx context.Context) string {
	id := auth.From(ctx)
	return id.Tenant + "\x00" + id.Subject
}

func pairPlace(conversation string, n int64) []byte {
	return []byte("guard/pseudonym/" + conversation + "/" + strconv.FormatInt(n, 10))
}

// open reads a conversation of the caller's. When there is none it is made, or is one without pairs.
func (v *vault) open(ctx context.Context, name string, create bool) (opened, error) { //nolint:revive // says what is wanted of an absent one
	if v.box == nil {
		return opened{}, errNoKeys()
	}
	ask := v.box.Known
	if create {
		ask = v.box.Pseudonym
	}
	owner, err := ask(ctx, ownerOf(ctx))
	if err != nil {
		return opened{}, err
	}
	sum := sha256.Sum256([]byte(owner + "\x00" + name))
	id := hex.EncodeToString(sum[:])
	row, found, err := v.conversation(ctx, id)
	if err != nil {
		return opened{}, err
	}
	if found {
		return v.unseal(ctx, row)
	}
	if !create {
		return opened{pairs: pseudonym.New(nil)}, nil
	}
	o := opened{key: make([]byte, secretSize), pairs: pseudonym.New(nil)}
	_, _ = rand.Read(o.key) // never fails (crypto/rand)
	o.row = conversation{id: id, owner: owner, expires: time.Now().Add(v.ttl).UnixMicro()}
	if o.row.secret, err = v.box.Seal(ctx, ownerOf(ctx), o.key, pairPlace(id, -1)); err != nil {
		return opened{}, err
	}
	return o, v.startConversation(ctx, o.row)
}

// unseal opens a conversation's pairs, or takes them from memory when nothing was written since.
func (v *vault) unseal(ctx context.Context, row conversation) (opened, error) {
	if o, ok := v.maps.Get(row.id); ok && o.row.pairs == row.pairs && string(o.row.secret) == string(row.secret) {
		o.row = row
		return o, nil
	}
	who := ownerOf(ctx)
	key, err := v.box.Open(ctx, who, row.secret, pairPlace(row.id, -1))
	if err != nil {
		return opened{}, err
	}
	sealed, err := v.sealedPairs(ctx, row)
	if err != nil {
		return opened{}, err
	}
	pairs := make([]pseudonym.Pair, len(sealed))
	for i, b := range sealed {
		plain, err := v.box.Open(ctx, who, b, pairPlace(row.id, int64(i)))
		if err != nil {
			return opened{}, err
		}
		var p sealedPair
		if err := json.Unmarshal(plain, &p); err != nil {
			return opened{}, fmt.Errorf("pseudonym: %w", err)
		}
		pairs[i] = pseudonym.Pair{Kind: p.Kind, Value: string(p.Value), Pseudonym: p.Pseudonym}
	}
	o := opened{row, key, pseudonym.New(pairs)}
	v.maps.Put(row.id, o)
	return o, nil
}

// tidy forgets conversations whose time is over, until ctx ends.
func (v *vault) tidy(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wait := tidyEvery
		switch n, err := v.dropExpired(ctx, tidyAtOnce); {
		case err != nil && ctx.Err() == nil:
			v.log.LogAttrs(ctx, slog.LevelWarn, "expired pseudonyms not deleted; it is tried again", slog.String("error", err.Error()))
		case n == tidyAtOnce:
			wait = 0
		}
		timer.Reset(wait)
	}
}

// start has expired conversations deleted until close.
func (v *vault) start(ctx context.Context) {
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	v.stop = stop
	v.done.Go(func() { v.tidy(life) })
}

func (v *vault) close(ctx context.Context) error {
	if v.stop == nil {
		return nil
	}
	v.stop()
	done := make(chan struct{})
	go func() { v.done.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop guard: %w", ctx.Err())
	}
}
