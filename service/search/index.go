package search

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"aran/platform/vector"
)

const (
	fileEnd     = ".vectors"
	tendIndexes = 5 * time.Second
)

// indexes holds the vectors of the collections that were searched last. They are derived from the
// database and catch up with it before each search, so that every replica finds the same. Large ones have a graph, and a
// file in a folder of this replica's own that spares it the building; a file that is damaged, too old or of something
// else is made anew. Safe for concurrent use.
type indexes struct {
	db         db
	maxIndexes int
	maxVectors int
	graphFrom  int
	dir        string // empty: no files
	log        *slog.Logger

	mu    sync.Mutex
	byKey map[indexKey]*index
	clock int64
}

// indexKey: vectors of another encoder are in another index, so that they can't be compared.
type indexKey struct {
	collection int64
	encoder    string
}

type index struct {
	key indexKey
	// Guarded by indexes.mu.
	used    int64
	users   int  // searches in it
	evicted bool // the last one closes it

	options vector.MemoryOptions
	log     *slog.Logger

	mu         sync.RWMutex
	generation int64
	dim        int
	vectors    *vector.Memory
	foreign    bool // some of the collection has vectors of another encoder
}

func newIndexes(d db, c Config, dir string, log *slog.Logger) *indexes {
	return &indexes{
		db: d, maxIndexes: c.LoadedIndexes, maxVectors: c.LoadedVectors, graphFrom: c.GraphFrom, dir: dir, log: log,
		byKey: map[indexKey]*index{},
	}
}

// openDir makes the folder for files.
func (x *indexes) openDir() error {
	if x.dir == "" {
		return nil
	}
	return os.MkdirAll(x.dir, 0o700)
}

// nearest is what an index found.
type nearest struct {
	hits    []vector.Hit
	foreign bool
}

// search finds the k passages of a collection nearest to q, among the allowed editions (nil: all).
func (x *indexes) search(ctx context.Context, c Collection, encoder string, q []float32, k int, allowed []int64) (near nearest, err error) {
	for range 3 { // a collection may be deleted, or a file be damaged, between being found and being asked
		if near, err = x.searchOnce(ctx, c, encoder, q, k, allowed); err == nil {
			return near, nil
		}
		if !errors.Is(err, vector.ErrDamaged) && !errors.Is(err, vector.ErrClosed) {
			break
		}
	}
	return nearest{}, fmt.Errorf("vectors of %s: %w", c.Name, err)
}

func (x *indexes) searchOnce(ctx context.Context, c Collection, encoder string, q []float32, k int, allowed []int64) (near nearest, err error) {
	i := x.use(c, encoder, len(q))
	defer x.leave(ctx, i)
	if err = i.catchUp(ctx, x.db, c.generation); err == nil {
		x.evict(ctx, i)
		i.mu.RLock()
		vectors := i.vectors
		near.foreign = i.foreign
		i.mu.RUnlock()
		near.hits, err = vectors.Search(ctx, vector.Query{Model: encoder, Vector: q}, k, allowed)
	}
	if errors.Is(err, vector.ErrDamaged) {
		x.log.LogAttrs(ctx, slog.LevelWarn, "a vector index is damaged; it is made anew", slog.Int64("collection", c.id), slog.String("error", err.Error()))
		x.drop(ctx, i)
	}
	return near, err
}

// leave ends the use of an index.
func (x *indexes) leave(ctx context.Context, i *index) {
	x.mu.Lock()
	i.users--
	last := i.evicted && i.users == 0
	x.mu.Unlock()
	if last {
		i.close(ctx)
	}
}

func (x *indexes) use(c Collection, encoder string, dim int) *index {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := indexKey{c.id, encoder}
	i, ok := x.byKey[k]
	if !ok {
		i = &index{key: k, dim: dim, generation: -1, options: x.options(c, encoder), log: x.log}
		x.byKey[k] = i
	}
	x.clock++
	i.used = x.clock
	i.users++
	return i
}

// options say where the file of an index is. Numbers of collections are given again, so it carries what tells them apart.
func (x *indexes) options(c Collection, encoder string) vector.MemoryOptions {
	o := vector.MemoryOptions{GraphFrom: x.graphFrom, Tag: fmt.Sprintf("%d/%s/%s/%d", c.id, c.tenant, c.Name, c.Created.UnixMicro())}
	if x.dir != "" && x.graphFrom > 0 {
		sum := sha256.Sum256([]byte(encoder))
		o.File = filepath.Join(x.dir, fmt.Sprintf("%d-%x%s", c.id, sum[:8], fileEnd))
	}
	return o
}

// drop forgets an index and its file.
func (x *indexes) drop(ctx context.Context, i *index) {
	x.mu.Lock()
	if x.byKey[i.key] == i {
		delete(x.byKey, i.key)
	}
	x.mu.Unlock()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.vectors == nil {
		return
	}
	if err := i.vectors.Remove(); err != nil {
		x.log.LogAttrs(ctx, slog.LevelWarn, "the file of a vector index is not removed", slog.String("error", err.Error()))
	}
}

// evict drops the indexes that were used longest ago until the bounds hold, but never the one in hand.
func (x *indexes) evict(ctx context.Context, inHand *index) {
	for _, i := range x.surplus(ctx, inHand) {
		i.close(ctx)
	}
}

func (x *indexes) surplus(ctx context.Context, inHand *index) (out []*index) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.byKey) > 1 {
		total := 0
		var oldest *index
		for _, i := range x.byKey {
			total += i.len(ctx)
			if i != inHand && (oldest == nil || i.used < oldest.used) {
				oldest = i
			}
		}
		if oldest == nil || len(x.byKey) <= x.maxIndexes && total <= x.maxVectors {
			return out
		}
		delete(x.byKey, oldest.key)
		if oldest.evicted = true; oldest.users == 0 {
			out = append(out, oldest)
		}
	}
	return out
}

// close lets go of an index's memory; its file stays.
func (i *index) close(ctx context.Context) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.vectors == nil {
		return
	}
	if err := i.vectors.Close(); err != nil {
		i.log.LogAttrs(ctx, slog.LevelWarn, "a vector index is not closed", slog.String("error", err.Error()))
	}
}

// refresh brings what is loaded of a collection up to date, so that what was deleted leaves the memory too.
func (x *indexes) refresh(ctx context.Context, collection int64) error {
	x.mu.Lock()
	var loaded []*index
	for k, i := range x.byKey {
		if k.collection == collection {
			loaded = append(loaded, i)
		}
	}
	x.mu.Unlock()
	if len(loaded) == 0 {
		return x.sweepFiles(ctx)
	}
	generation, gone, err := x.db.generation(ctx, collection)
	if err != nil {
		return err
	}
	for _, i := range loaded {
		if gone {
			x.drop(ctx, i)
		} else if err := i.catchUp(ctx, x.db, generation); err != nil && !errors.Is(err, vector.ErrClosed) {
			return err
		}
	}
	return x.sweepFiles(ctx)
}

// clear lets go of all.
func (x *indexes) clear(ctx context.Context) {
	x.mu.Lock()
	all := slices.Collect(maps.Values(x.byKey))
	clear(x.byKey)
	x.mu.Unlock()
	for _, i := range all {
		i.close(ctx)
	}
}

// tend builds and repairs graphs and writes files, every so often until ctx ends.
func (x *indexes) tend(ctx context.Context) {
	if err := x.sweepFiles(ctx); err != nil {
		x.log.LogAttrs(ctx, slog.LevelWarn, "files of vector indexes not looked through", slog.String("error", err.Error()))
	}
	ticker := time.NewTicker(tendIndexes)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		x.mu.Lock()
		all := slices.Collect(maps.Values(x.byKey))
		x.mu.Unlock()
		for _, i := range all {
			i.mu.RLock()
			vectors := i.vectors
			i.mu.RUnlock()
			if vectors == nil {
				continue
			}
			if err := vectors.Tend(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, vector.ErrClosed) {
				x.log.LogAttrs(ctx, slog.LevelWarn, "a vector index is not kept; it is tried again", slog.Int64("collection", i.key.collection), slog.String("error", err.Error()))
			}
		}
	}
}

// sweepFiles removes files that hold what was deleted, unless their index is loaded and looks after its own.
func (x *indexes) sweepFiles(ctx context.Context) error {
	if x.dir == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(x.dir, "*"+fileEnd))
	if err != nil {
		return err
	}
	for _, f := range files {
		n, _, _ := strings.Cut(filepath.Base(f), "-")
		collection, err := strconv.ParseInt(n, 10, 64)
		if err != nil {
			continue // not one of ours
		}
		if stays, err := x.mayStay(ctx, f, collection); err != nil || stays {
			if err != nil {
				return err
			}
			continue
		}
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (x *indexes) mayStay(ctx context.Context, file string, collection int64) (bool, error) {
	x.mu.Lock()
	for k, i := range x.byKey {
		if k.collection == collection && i.options.File == file {
			x.mu.Unlock()
			return true, nil
		}
	}
	x.mu.Unlock()
	mark, ok := vector.FileMark(file)
	generation, gone, err := x.db.generation(ctx, collection)
	if err != nil || gone || !ok || mark > generation || generation-mark > keptGenerations {
		return false, err
	}
	went, err := x.db.gone(ctx, collection, mark)
	return len(went) == 0, err
}

// all lists the collections that are loaded.
func (x *indexes) all() map[int64]bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := map[int64]bool{}
	for k := range x.byKey {
		out[k.collection] = true
	}
	return out
}

func (i *index) len(ctx context.Context) int {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if i.vectors == nil {
		return 0
	}
	n, _ := i.vectors.Len(ctx) // in memory it does not fail
	return n
}

// catchUp brings the index to a generation of its collection, or to a later one.
func (i *index) catchUp(ctx context.Context, d db, generation int64) (err error) {
	i.mu.RLock()
	current := i.generation >= generation
	i.mu.RUnlock()
	if current {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.generation >= generation {
		return nil
	}
	vectors, after := i.vectors, i.generation
	if vectors == nil {
		if vectors, after, err = i.open(ctx, generation); err != nil {
			return err
		}
	} else if generation-after > keptGenerations {
		if err := vectors.Remove(); err != nil {
			return err
		}
		vectors, after = vector.NewMemoryWith(i.key.encoder, i.dim, i.options), -1
	}
	// First what came, then what went: an edition that came and went meanwhile is gone in the end.
	err = d.changed(ctx, i.key.collection, after, i.key.encoder, func(edition int64, part int, packed []byte) error {
		if vectors.Owned(edition) > part {
			return nil // its document changed otherwise
		}
		return i.put(ctx, vectors, edition, part, packed)
	})
	if err != nil {
		return err
	}
	gone, err := d.gone(ctx, i.key.collection, after)
	if err != nil {
		return err
	}
	if err := vectors.Delete(ctx, gone...); err != nil {
		return err
	}
	if i.foreign, err = d.foreignVectors(ctx, i.key.collection, i.key.encoder); err != nil {
		return err
	}
	vectors.SetMark(generation)
	i.vectors, i.generation = vectors, generation
	return nil
}

// open takes what a file has, if it has something of this collection that can catch up, or begins with nothing.
func (i *index) open(ctx context.Context, generation int64) (*vector.Memory, int64, error) {
	vectors, mark, why := vector.OpenMemory(i.key.encoder, i.dim, i.options)
	if why != nil {
		i.log.LogAttrs(ctx, slog.LevelWarn, "the file of a vector index is of no use; it is made anew", slog.Int64("collection", i.key.collection), slog.String("error", why.Error()))
	}
	if mark < 0 {
		return vectors, -1, nil
	}
	if mark <= generation && generation-mark <= keptGenerations {
		return vectors, mark, nil
	}
	if err := vectors.Remove(); err != nil {
		return nil, 0, err
	}
	return vector.NewMemoryWith(i.key.encoder, i.dim, i.options), -1, nil
}

// put adds the vectors of a part.
func (i *index) put(ctx context.Context, x *vector.Memory, edition int64, first int, packed []byte) error {
	if len(packed)%(4*i.dim) != 0 {
		return fmt.Errorf("vectors of edition %d: %d bytes are not vectors of %d numbers", edition, len(packed), i.dim)
	}
	p := part{edition: edition, first: first, passages: len(packed) / (4 * i.dim), packed: packed}
	items, _, err := p.items()
	if err != nil {
		return err
	}
	return x.Put(ctx, items...)
}

func unpack(b []byte, v []float32) {
	for j := range v {
		v[j] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*j:]))
	}
}

// pack appends a vector as float32, little-endian.
func pack(b []byte, v []float32) []byte {
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}
