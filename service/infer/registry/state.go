package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"aran/platform/fault"
)

// State says which version of a model is served, and how that came about. It is a small file that is replaced as
// a whole, so that several processes can read it while one changes it.
type State struct {
	Name string `json:"name"`
	Pin
	Former  *Pin  `json:"former,omitempty"` // what Rollback goes back to
	Serial  int64 `json:"serial"`           // grows by one with each change
	History []Use `json:"history"`          // newest last, at most 100
}

// Pin is a version and the digest of its content when it was chosen.
type Pin struct {
	Version string `json:"version"`
	Digest  string `json:"digest"`
}

// Use is one change of the version that is served.
type Use struct {
	Pin
	At     time.Time `json:"at"`
	By     string    `json:"by"`     // who: a user of this machine, a subject of the platform, a service
	Why    string    `json:"why"`    // in their words
	Action string    `json:"action"` // use, rollback, pull (the version that was there before a further one came)
}

// The actions.
const (
	ActionUse      = "use"
	ActionRollback = "rollback"
	ActionPull     = "pull"
)

// Change says who changes what is served, and why.
type Change struct{ By, Why string }

const (
	maxHistory = 100
	maxState   = 1 << 20
	maxBy      = 200
)

func (r *Registry) stateFile(name string) string {
	return filepath.Join(r.dir, "active", name+".json")
}

// State reads what is served of a model. Before the first Use its Serial is 0 and its version the default: the
// newest that is here, else the newest that is known.
func (r *Registry) State(name string) (State, error) {
	c := r.known.Load()
	if len(c.versions(name)) == 0 {
		return State{}, fault.New(fault.Missing, "model_not_found", "There is no model %.100q; known are %s.", name, strings.Join(c.names(), ", "))
	}
	s, err := r.readState(name)
	if errors.Is(err, fs.ErrNotExist) {
		if k := r.standard(c, name); k != nil {
			return State{Name: name, Pin: k.pin()}, nil
		}
		return State{Name: name}, nil
	}
	return s, err
}

func (r *Registry) readState(name string) (State, error) {
	if r.dir == "" {
		return State{}, fs.ErrNotExist
	}
	file := r.stateFile(name)
	info, err := os.Lstat(file)
	if err != nil {
		return State{}, err
	}
	if c, ok := r.states.Load(name); ok {
		if was, ok := c.(cached); ok && os.SameFile(was.info, info) && was.info.ModTime().Equal(info.ModTime()) && was.info.Size() == info.Size() {
			return was.state.clone(), nil
		}
	}
	b, err := readSmall(file)
	if err != nil {
		return State{}, err
	}
	var s State
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&s); err != nil {
		return State{}, fmt.Errorf("state of model %s: %w", name, err)
	}
	if s.Name != name || !namePattern.MatchString(s.Version) || s.Serial < 1 || s.Former != nil && !namePattern.MatchString(s.Former.Version) {
		return State{}, fmt.Errorf("state of model %s: %s is not what this program writes; delete it to return to the default", name, file)
	}
	r.states.Store(name, cached{info, s.clone()})
	return s, nil
}

// cached is a state as it was read from a file, which is replaced when it changes.
type cached struct {
	info  fs.FileInfo
	state State
}

func (s State) clone() State {
	s.History = slices.Clone(s.History)
	if s.Former != nil {
		former := *s.Former
		s.Former = &former
	}
	return s
}

// pin is what a version is now. Only the version is compared for the program's own encoder: a new program has a new
// one, and nothing else to fall back on.
func (k *known) pin() Pin { return Pin{Version: k.Version, Digest: k.Digest()} }

// Active is the version of a model that is served; empty when there is none that may be used. A choice that can't be
// read, or whose version is gone, refused or another one than was chosen, does not count: the default is served, and
// the log says so.
func (r *Registry) Active(name string) (version string) { return r.active(r.known.Load(), name) }

func (r *Registry) active(c *catalogue, name string) string {
	s, err := r.readState(name)
	if err == nil {
		k := c.find(name, s.Version)
		switch {
		case k == nil:
			err = errors.New("the version that was chosen is not known any more")
		case k.refused != "":
			err = errors.New(k.refused)
		case k.pin() != s.Pin:
			err = errors.New("the version that was chosen has another content now; use it again to accept that")
		default:
			return s.Version
		}
	}
	k := r.standard(c, name)
	if k == nil {
		return ""
	}
	if !errors.Is(err, fs.ErrNotExist) {
		r.complain(name, k.Version, err)
	}
	return k.Version
}

// complain says once what is wrong with a choice, not at every look.
func (r *Registry) complain(name, instead string, err error) {
	if said, ok := r.said.Swap(name, err.Error()); !ok || said != err.Error() {
		r.o.Log.LogAttrs(context.Background(), slog.LevelWarn, "choice of a model's version does not count", slog.String("model", name), slog.String("served", instead), slog.String("error", err.Error()))
	}
}

// standard is what is served when nobody chose: the newest version that is here, else the newest that is known.
func (r *Registry) standard(c *catalogue, name string) (best *known) {
	here := false
	usable := slices.DeleteFunc(c.versions(name), func(k *known) bool { return k.refused != "" })
	if len(usable) == 1 { // the common case reads no folder
		return usable[0]
	}
	for _, k := range usable {
		is := k.inProgram() || k.Runs() && r.found(&k.Manifest) != ""
		if best == nil || is || !here {
			best, here = k, is || here
		}
	}
	return best
}

// keepActive writes down what is served of a model by default before a further version comes in, which would
// otherwise take its place.
func (r *Registry) keepActive(ctx context.Context, further *known) error {
	unlock, err := r.lock(ctx, activeLock)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = r.readState(further.Name)
	if !errors.Is(err, fs.ErrNotExist) {
		return nil // there is a choice, good or not; Use says what is wrong with it
	}
	c := r.known.Load()
	k := r.standard(c, further.Name)
	if k == nil || k.Version == further.Version || !k.inProgram() && r.found(&k.Manifest) == "" {
		return nil
	}
	return r.write(State{Name: k.Name}, k, Use{Pin: k.pin(), By: "aran", Why: "version " + further.Version + " is pulled; this one stays", Action: ActionPull})
}

// Use makes a version the one that is served, durably and at once for whoever reads the folder. The version must be
// known and trusted (fault.Conflict `model_not_trusted`), installed (fault.Conflict `model_not_installed`), and
// every file of it must be what the manifest says (fault.Conflict `model_damaged`). Using what is served already
// changes nothing.
func (r *Registry) Use(ctx context.Context, name, version string, c Change) (State, error) {
	return r.change(ctx, name, c, ActionUse, func(*State) (string, error) {
		if version == "" {
			return "", fault.New(fault.Invalid, "model_version_needed", "Say which version of model %s is to be used.", name)
		}
		return version, nil
	})
}

// Rollback goes back to the version that was served before, with the conditions of Use. Rolling back again returns.
// The error is fault.Conflict `no_former_version` when there was none.
func (r *Registry) Rollback(ctx context.Context, name string, c Change) (State, error) {
	return r.change(ctx, name, c, ActionRollback, func(s *State) (string, error) {
		if s.Former == nil {
			return "", fault.New(fault.Conflict, "no_former_version", "Model %s has no version to go back to.", name)
		}
		return s.Former.Version, nil
	})
}

func (r *Registry) change(ctx context.Context, name string, c Change, action string, choose func(*State) (string, error)) (State, error) {
	if r.dir == "" {
		return State{}, errors.New("there is no folder for models: set ARAN_MODELS")
	}
	if err := c.check(); err != nil {
		return State{}, err
	}
	if err := r.Refresh(); err != nil {
		return State{}, err
	}
	if _, err := r.resolve(name); err != nil && fault.From(err).Code == "model_not_found" {
		return State{}, err
	}
	unlock, err := r.lock(ctx, activeLock)
	if err != nil {
		return State{}, err
	}
	defer unlock()
	was, err := r.State(name)
	if err != nil { // written by something else: a choice is made afresh
		r.complain(name, r.Active(name), err)
		was = State{Name: name}
	}
	version, err := choose(&was)
	if err != nil {
		return State{}, err
	}
	k, err := r.resolve(name + "@" + version)
	if err != nil {
		return State{}, err
	}
	if action == ActionRollback && was.Former.Digest != k.pin().Digest {
		return State{}, fault.New(fault.Conflict, "former_version_changed", "Version %s of model %s is not what it was when it was served; use it by name to accept that.", version, name)
	}
	if err := r.Verify(ctx, name+"@"+version); err != nil {
		return State{}, unfit(ctx, k, err)
	}
	if was.Serial > 0 && was.Pin == k.pin() {
		return was, nil
	}
	if err := r.write(was, k, Use{Pin: k.pin(), By: c.By, Why: c.Why, Action: action}); err != nil {
		return State{}, err
	}
	return r.State(name)
}

// unfit is why a version can't be used.
func unfit(ctx context.Context, k *known, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if f := fault.From(err); f != nil && f.Kind != fault.Internal {
		return err
	}
	return fault.New(fault.Conflict, "model_damaged", "Model %s@%s is damaged; `aran model pull %[1]s@%[2]s` repairs it.", k.Name, k.Version).Because(err)
}

func (c Change) check() error {
	for _, t := range []string{c.By, c.Why} {
		if len(t) > maxBy || !utf8.ValidString(t) || checkNotes([]string{t}) != nil {
			return fault.New(fault.Invalid, "bad_reason", "Who and why: use at most %d bytes without control characters.", maxBy)
		}
	}
	return nil
}

// write replaces the state. The caller holds the lock. A kill leaves the old file or the new one.
func (r *Registry) write(s State, k *known, u Use) error {
	if s.Version != "" && s.Pin != u.Pin {
		former := s.Pin
		s.Former = &former
	}
	u.At = time.Now().UTC().Truncate(time.Microsecond)
	s.Pin, s.Serial, s.History = u.Pin, s.Serial+1, append(s.History, u)
	if n := len(s.History); n > maxHistory {
		s.History = s.History[n-maxHistory:]
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("use %s: %w", k.Name, err)
	}
	if len(b) > maxState {
		return fmt.Errorf("use %s: its state has %d bytes", k.Name, len(b))
	}
	dir := filepath.Join(r.dir, "active")
	if err := sweep(dir); err != nil {
		return err
	}
	tmp := filepath.Join(dir, ".new-"+rand.Text())
	err = os.WriteFile(tmp, append(b, '\n'), 0o600)
	if err == nil {
		err = syncFile(tmp)
	}
	if err == nil {
		fault.Point("registry.state_written")
		err = os.Rename(tmp, r.stateFile(k.Name))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("use %s: %w", k.Name, err), remove(tmp))
	}
	fault.Point("registry.state_kept")
	return syncDir(dir)
}

// Watch calls changed with the state of every model, and again for each whose served version or manifest is another
// one, until ctx ends. It looks every `every`, also at the manifests, and reads only what changed. changed is called
// from this goroutine.
func (r *Registry) Watch(ctx context.Context, every time.Duration, changed func(State)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	last, seen := map[string]string{}, ""
	for {
		if now := r.mark(); now != seen {
			if err := r.Refresh(); err != nil {
				r.o.Log.LogAttrs(ctx, slog.LevelWarn, "manifests could not be read again; those known before stay", slog.String("error", err.Error()))
			}
			seen = now
			r.tell(last, changed)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *Registry) tell(last map[string]string, changed func(State)) {
	c := r.known.Load()
	for _, name := range c.names() {
		s, err := r.State(name)
		if v := r.active(c, name); err != nil || v != s.Version {
			s = State{Name: name}
			if k := c.find(name, v); k != nil {
				s.Pin = k.pin()
			}
		}
		now := s.Version + " " + s.Digest + " " + strconv.FormatInt(s.Serial, 10)
		if k := c.find(name, s.Version); k != nil {
			now += " " + k.digest
		}
		if last[name] != now {
			last[name] = now
			changed(s)
		}
	}
}

// mark changes when a manifest, an installed version or a choice comes, goes or is replaced.
func (r *Registry) mark() string {
	var b strings.Builder
	note := func(name string, info fs.FileInfo) {
		fmt.Fprintf(&b, "%s %d %d\n", name, info.Size(), info.ModTime().UnixNano())
	}
	if r.o.Manifests != nil {
		if names, err := fs.Glob(r.o.Manifests, "*.json"); err == nil {
			for _, n := range names {
				if info, err := fs.Stat(r.o.Manifests, n); err == nil {
					note(n, info)
				}
			}
		}
	}
	if r.dir == "" {
		return b.String()
	}
	for _, pattern := range []string{"active/*.json", "models/*/*/" + record} {
		names, err := filepath.Glob(filepath.Join(r.dir, filepath.FromSlash(pattern)))
		if err != nil {
			continue
		}
		for _, n := range names {
			if info, err := os.Lstat(n); err == nil {
				note(n, info)
			}
		}
	}
	return b.String()
}
