package recommend

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/seal"
)

// person is a user as the database knows them.
type person struct {
	name    string // pseudonym; empty: nothing is known of the user
	subject string // under which the key database has it
}

const (
	maxErasures = 64 // of one user
	keysAtOnce  = 16
	codeSpent   = "erased_too_often"
)

// subjectOf names a user to the key database, which keeps a keyed hash of the name. A user who was erased and comes back
// is somebody else to us.
func subjectOf(tenant, user string, life int) string {
	return tenant + "\x00" + user + "\x00" + strconv.Itoa(life)
}

// living asks for a user's pseudonym in the first life that is not erased.
func living(ctx context.Context, tenant, user string, ask func(ctx context.Context, subject string) (string, error)) (person, int, error) {
	for life := range maxErasures {
		subject := subjectOf(tenant, user, life)
		name, err := ask(ctx, subject)
		if f := fault.From(err); f != nil && f.Code == seal.CodeErased {
			continue
		}
		if err != nil {
			return person{}, life, fmt.Errorf("pseudonym: %w", err)
		}
		return person{name, subject}, life, nil
	}
	return person{}, maxErasures, fault.New(fault.Conflict, codeSpent, "This user was erased %d times; use another id.", maxErasures)
}

// spent reports whether a user has no life left: they were erased for good.
func spent(err error) bool {
	f := fault.From(err)
	return f != nil && f.Code == codeSpent
}

// known returns a user's pseudonym if they have one; a question makes none.
func (s *Service) known(ctx context.Context, tenant, user string) (person, error) {
	p, _, err := living(ctx, tenant, user, s.box.Known)
	if spent(err) {
		return person{}, nil
	}
	return p, err
}

// people returns the pseudonyms of all users of a list, made for those who are new.
func (s *Service) people(ctx context.Context, tenant string, list []Interaction) (map[string]person, error) {
	var mu sync.Mutex
	out, asked := map[string]person{}, map[string]bool{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(keysAtOnce) // they share commits
	for _, x := range list {
		if asked[x.User] {
			continue
		}
		asked[x.User] = true
		g.Go(func() error {
			p, _, err := living(ctx, tenant, x.User, s.box.Pseudonym)
			mu.Lock()
			defer mu.Unlock()
			out[x.User] = p
			return err
		})
	}
	return out, g.Wait()
}

// finish erases the keys of people whose rows are erased: the process that did it was killed in between, or it was
// another replica and this one still had the keys in memory.
func (s *Service) finish(ctx context.Context, people map[string]person, gone goneError) error {
	for _, p := range people {
		if gone[p.name] {
			if err := s.box.Erase(ctx, p.subject); err != nil {
				return err
			}
		}
	}
	return nil
}

// Erase forgets a user of the caller's tenant: their interactions leave the counts, and nothing that is recorded elsewhere
// can be linked to them any more. A user who is not known is no error.
func (s *Service) Erase(ctx context.Context, user string) error {
	if err := checkUser(user); err != nil {
		return err
	}
	id := auth.From(ctx)
	for {
		p, life, err := living(ctx, id.Tenant, user, s.box.Known)
		if err != nil && !spent(err) {
			return err
		}
		if p.name == "" {
			if life == 0 {
				return nil
			}
			return s.box.Erase(ctx, subjectOf(id.Tenant, user, life-1)) // whoever repeats an erasure wants its traces gone too
		}
		if err := s.db.erase(ctx, id, p.name); err != nil {
			return err
		}
		fault.Point("recommend.rows_erased")
		if err := s.box.Erase(ctx, p.subject); err != nil {
			return err
		}
		fault.Point("recommend.user_erased")
	}
}

// refOf is how a client's id of an interaction is kept: a hash under the user's pseudonym.
func refOf(person, id string) string {
	if id == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(person + "\x00" + id))
	return hex.EncodeToString(sum[:])
}
