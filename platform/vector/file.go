package vector

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"unsafe"
)

// A file holds rows and their graph without what was deleted, after a header of one page:
//
//	magic · byte order · dim · degree · rows · linked rows · mark · entry · words of the arena · digest of the model's name and the tag ·
//	a CRC-32C of each section · a CRC-32C of the header
//
// Sections follow one after the other: a CRC-32C of each vector, ids, owners, scales, errors, codes, links, upper, arena;
// then, from the next page on, the vectors. These stay in the file: each is checked whenever it is read. All numbers are
// in the order of the machine that wrote them; on a machine of the other order the file is of no use.
const (
	fileMagic = "ARANVEC1"
	order     = uint32(0x01020304)
	page      = 4096
	sections  = 9
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // a constant

// ErrDamaged means that what a space has on disk can't be read, or is not what was written. Its owner closes it, removes
// the file, and rebuilds it.
var ErrDamaged = errors.New("the vector file is damaged")

type header struct {
	Magic       [8]byte
	Order       uint32
	Dim, Degree uint32
	_           uint32
	Rows        uint64
	Linked      uint64
	Mark        int64
	Entry       uint64
	Words       uint64
	Model       [sha256.Size]byte
	Sums        [sections]uint32
	Sum         uint32 // of all before it
}

var headerSize = binary.Size(header{}) //nolint:gochecknoglobals // a constant

func (h *header) bytes() []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.NativeEndian, h) // of fixed size: it does not fail
	raw := b.Bytes()
	binary.NativeEndian.PutUint32(raw[headerSize-4:], crc32.Checksum(raw[:headerSize-4], castagnoli))
	return raw
}

// sizes are the bytes of each section.
func (h *header) sizes() [sections]uint64 {
	n := h.Rows
	return [sections]uint64{4 * n, 8 * n, 8 * n, 4 * n, 4 * n, n * uint64(strideOf(int(h.Dim))), 4 * lowest * n, 4 * n, 4 * h.Words} //nolint:gosec // checked when read
}

// vectors is where the exact vectors begin.
func (h *header) vectors() int64 {
	at := uint64(page)
	for _, s := range h.sizes() {
		at += s
	}
	return int64((at + page - 1) / page * page)
}

func asBytes[T any](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	var t T
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(t))) //nolint:gosec // numbers as bytes
}

// view is what rows were at one moment: rows do not change, only Tend changes links, and it is Tend that writes.
type view struct {
	x     *rows // its blocks and dead are copies
	g     *graph
	done  uint32
	entry uint64
	mark  int64
	after int64 // changes that it has
}

func (m *Memory) view() view {
	m.writing.Lock()
	defer m.writing.Unlock()
	m.mu.RLock()
	defer m.mu.RUnlock()
	x := *m.rows
	x.byID, x.owners = nil, nil
	x.blocks = make([]*block, len(m.rows.blocks))
	for i, b := range m.rows.blocks {
		c := *b
		x.blocks[i] = &c
	}
	x.dead = append(bits(nil), m.rows.dead...)
	return view{&x, m.graph, m.graph.linked(), m.graph.entry.Load(), m.mark, m.changes}
}

// write stores a view.
func (v view) write(w io.WriterAt, model string) error {
	x := v.x
	h := header{Order: order, Dim: uint32(x.dim), Degree: degree, Rows: uint64(x.live()), Mark: v.mark, Entry: noEntry, Model: sha256.Sum256([]byte(model))} //nolint:gosec // small
	copy(h.Magic[:], fileMagic)
	number := make([]uint32, x.n) // row → row of the file
	next := uint32(0)
	for r := range number {
		number[r] = none
		if !x.dead.has(uint32(r)) {
			number[r] = next
			next++
		}
	}
	arena := []uint32{0}
	upper := make([]uint32, 0, next)
	top := -1
	v.each(func(r uint32, _ *block, _ int) {
		if r >= v.done {
			upper = append(upper, 0)
			return
		}
		h.Linked++
		layers := v.g.layers(r)
		if layers == 0 {
			upper = append(upper, 0)
		} else {
			if left := arenaWords - len(arena)%arenaWords; left < 1+layers*higher {
				arena = append(arena, make([]uint32, left)...)
			}
			upper = append(upper, uint32(len(arena))) //nolint:gosec // a fraction of the rows
			arena = append(arena, uint32(layers))     //nolint:gosec // below maxLayers
			for l := 1; l <= layers; l++ {
				arena = append(arena, renumber(v.g.list(r, l), number)...)
			}
		}
		if layers > top {
			top, h.Entry = layers, uint64(layers)<<32|uint64(number[r]) //nolint:gosec // not negative
		}
	})
	if v.entry != noEntry && number[uint32(v.entry)] != none { //nolint:gosec // its lower half
		h.Entry = v.entry&^uint64(none) | uint64(number[uint32(v.entry)]) //nolint:gosec // its lower half
	}
	h.Words = uint64(len(arena))
	out := &sectioned{w: bufio.NewWriterSize(io.NewOffsetWriter(w, page), 1<<20)}
	var unlinked [lowest]uint32
	for s, part := range []func(r uint32, b *block, i int) []byte{
		func(_ uint32, b *block, i int) []byte {
			return asBytes([]uint32{crc32.Checksum(asBytes(b.exact[i*x.dim:(i+1)*x.dim]), castagnoli)})
		},
		func(_ uint32, b *block, i int) []byte { return asBytes(b.ids[i : i+1]) },
		func(_ uint32, b *block, i int) []byte { return asBytes(b.owner[i : i+1]) },
		func(_ uint32, b *block, i int) []byte { return asBytes(b.scale[i : i+1]) },
		func(_ uint32, b *block, i int) []byte { return asBytes(b.err[i : i+1]) },
		func(_ uint32, b *block, i int) []byte { return asBytes(b.codes[i*x.stride : (i+1)*x.stride]) },
		func(r uint32, _ *block, _ int) []byte {
			if r >= v.done {
				return asBytes(unlinked[:])
			}
			return asBytes(renumber(v.g.list(r, 0), number))
		},
	} {
		v.each(func(r uint32, b *block, i int) { out.write(part(r, b, i)) })
		h.Sums[s] = out.end()
	}
	out.write(asBytes(upper))
	h.Sums[sections-2] = out.end()
	out.write(asBytes(arena))
	h.Sums[sections-1] = out.end()
	if err := out.w.Flush(); err != nil {
		return err
	}
	out = &sectioned{w: bufio.NewWriterSize(io.NewOffsetWriter(w, h.vectors()), 1<<20)}
	var damaged error
	v.each(func(_ uint32, b *block, i int) {
		if !b.sound(i, x.dim) {
			damaged = ErrDamaged // a sum made of what is damaged would hide it
		}
		out.write(asBytes(b.exact[i*x.dim : (i+1)*x.dim]))
	})
	if err := out.w.Flush(); err != nil || damaged != nil {
		return errors.Join(err, damaged)
	}
	_, err := w.WriteAt(h.bytes(), 0)
	return err
}

// each calls yield for each live row.
func (v view) each(yield func(r uint32, b *block, i int)) {
	for r := range uint32(v.x.n) { //nolint:gosec // below maxRows
		if !v.x.dead.has(r) {
			b, i := v.x.at(r)
			yield(r, b, i)
		}
	}
}

// renumber returns a list of links with the rows' new numbers, as long as it was.
func renumber(list, number []uint32) []uint32 {
	out := make([]uint32, len(list))
	for _, r := range list[1 : 1+list[0]] {
		if n := number[r]; n != none {
			out[0]++
			out[out[0]] = n
		}
	}
	return out
}

// sectioned writes, and sums up section by section. bufio keeps the first error.
type sectioned struct {
	w   *bufio.Writer
	sum uint32
}

func (s *sectioned) write(b []byte) {
	s.sum = crc32.Update(s.sum, castagnoli, b)
	_, _ = s.w.Write(b)
}

func (s *sectioned) end() uint32 {
	sum := s.sum
	s.sum = 0
	return sum
}

// sound checks a vector that lies in a file.
func (b *block) sound(i, dim int) bool {
	return i >= len(b.sums) || b.sums[i] == crc32.Checksum(asBytes(b.exact[i*dim:(i+1)*dim]), castagnoli)
}

// errOther: a file that is whole, and of something else.
var errOther = errors.New("the vector file is of another model, dimension or version")

// load reads what write has stored. exact are the vectors as they lie in the file.
func load(r io.ReaderAt, size int64, model string, dim int) (h header, x *rows, g *graph, err error) {
	raw := make([]byte, headerSize)
	if _, err := r.ReadAt(raw, 0); err != nil {
		return h, nil, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	_ = binary.Read(bytes.NewReader(raw), binary.NativeEndian, &h) // long enough: it does not fail
	switch {
	case string(h.Magic[:]) != fileMagic || h.Order != order || h.Degree != degree || int(h.Dim) != dim || h.Model != sha256.Sum256([]byte(model)):
		return h, nil, nil, errOther
	case h.Sum != crc32.Checksum(raw[:headerSize-4], castagnoli):
		return h, nil, nil, fmt.Errorf("%w: its header", ErrDamaged)
	case h.Rows > maxRows || h.Linked > h.Rows || h.Words > maxRows || h.vectors()+int64(h.Rows)*4*int64(dim) != size:
		return h, nil, nil, fmt.Errorf("%w: its length", ErrDamaged)
	}
	x = newRows(dim)
	g = newGraph(x)
	n := int(h.Rows)
	x.byID, x.owners = make(map[int64]uint32, n), map[int64]owned{} // owners may be few
	for from := 0; from < n; from += blockRows {
		rows := min(blockRows, n-from)
		x.blocks = append(x.blocks, &block{
			sums: make([]uint32, rows), ids: make([]int64, rows, blockRows), owner: make([]int64, rows, blockRows),
			scale: make([]float32, rows, blockRows), err: make([]float32, rows, blockRows), codes: make([]int8, rows*x.stride, blockRows*x.stride),
			next: make([]uint32, rows, blockRows), prev: make([]uint32, rows, blockRows),
			links: make([]uint32, blockRows*lowest), upper: make([]uint32, blockRows),
		})
	}
	for left := int(h.Words); left > 0; left -= arenaWords {
		g.arena = append(g.arena, make([]uint32, arenaWords))
	}
	in := io.NewSectionReader(r, page, size-page)
	for s, part := range []func(b *block, rows int) []byte{
		func(b *block, _ int) []byte { return asBytes(b.sums) },
		func(b *block, _ int) []byte { return asBytes(b.ids) },
		func(b *block, _ int) []byte { return asBytes(b.owner) },
		func(b *block, _ int) []byte { return asBytes(b.scale) },
		func(b *block, _ int) []byte { return asBytes(b.err) },
		func(b *block, _ int) []byte { return asBytes(b.codes) },
		func(b *block, rows int) []byte { return asBytes(b.links[:rows*lowest]) },
		func(b *block, rows int) []byte { return asBytes(b.upper[:rows]) },
	} {
		sum := uint32(0)
		for _, b := range x.blocks {
			into := part(b, len(b.ids))
			if _, err := io.ReadFull(in, into); err != nil {
				return h, nil, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
			}
			sum = crc32.Update(sum, castagnoli, into)
		}
		if sum != h.Sums[s] {
			return h, nil, nil, fmt.Errorf("%w: section %d", ErrDamaged, s)
		}
	}
	sum := uint32(0)
	for i, c := range g.arena {
		into := asBytes(c[:min(arenaWords, int(h.Words)-i*arenaWords)])
		if _, err := io.ReadFull(in, into); err != nil {
			return h, nil, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		sum = crc32.Update(sum, castagnoli, into)
	}
	if sum != h.Sums[sections-1] {
		return h, nil, nil, fmt.Errorf("%w: section %d", ErrDamaged, sections-1)
	}
	x.n = n
	x.dead = x.dead.grown(n)
	for r := range uint32(n) {
		b, i := x.at(r)
		x.byID[b.ids[i]] = r
		b.next[i], b.prev[i] = none, none
		x.chain(r, b.owner[i])
	}
	if !g.sound(h) {
		return h, nil, nil, fmt.Errorf("%w: its links", ErrDamaged)
	}
	g.used = max(1, uint32(h.Words))
	g.entry.Store(h.Entry)
	g.done.Store(uint32(h.Linked)) //nolint:gosec // bounded above
	return h, x, g, nil
}

// sound reports whether links lead to rows: a walk trusts them.
func (g *graph) sound(h header) bool {
	n := uint32(h.Rows) //nolint:gosec // bounded by who read it
	lists := func(words []uint32, size int) bool {
		for l := range slices.Chunk(words, size) {
			if int(l[0]) >= size || slices.ContainsFunc(l[1:1+l[0]], func(r uint32) bool { return r >= n }) {
				return false
			}
		}
		return true
	}
	for _, b := range g.x.blocks {
		if !lists(b.links[:len(b.ids)*lowest], lowest) {
			return false
		}
		for _, at := range b.upper[:len(b.ids)] {
			if at == 0 {
				continue
			}
			if uint64(at) >= h.Words {
				return false
			}
			chunk := g.arena[at/arenaWords][at%arenaWords:]
			layers := int(chunk[0])
			if layers >= maxLayers || len(chunk) < 1+layers*higher || !lists(chunk[1:1+layers*higher], higher) {
				return false
			}
		}
	}
	if h.Entry == noEntry {
		return h.Linked == 0
	}
	e := uint32(h.Entry) //nolint:gosec // its lower half
	return e < n && int(h.Entry>>32) <= g.layers(e)
}

// lay makes vectors of rows lie in exact, which is as long as they are.
func (x *rows) lay(exact []float32) {
	for i, b := range x.blocks {
		from, to := i*blockRows*x.dim, (i*blockRows+len(b.ids))*x.dim
		b.exact = exact[from:to:to]
	}
}

// OpenMemory opens a space with the file that its options name, and returns the mark that was set when the file was
// written. Where there is no file, or one that is damaged or of something else, it is empty and its mark is -1: the file
// is derived from what its owner has, and is written anew. why tells what was wrong with the file that was there.
func OpenMemory(model string, dim int, o MemoryOptions) (m *Memory, mark int64, why error) {
	m = NewMemoryWith(model, dim, o)
	m.mark = -1
	if o.File == "" || o.GraphFrom == 0 {
		return m, -1, nil
	}
	rests, _ := filepath.Glob(o.File + ".*.tmp") // the pattern is well formed unless the folder's name is not: then they stay
	for _, r := range rests {
		_ = os.Remove(r) // of a process that was cut off while it wrote
	}
	h, x, g, file, err := openFile(o.File, m.signature(), dim)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, -1, nil
	case err != nil:
		return m, -1, fmt.Errorf("open vectors: %w", errors.Join(err, os.Remove(o.File)))
	}
	m.rows, m.graph, m.file, m.mark = x, g, file, h.Mark
	return m, h.Mark, nil
}

// signature is what a file is of.
func (m *Memory) signature() string { return m.model + "\x00" + m.opt.Tag }

func openFile(path, model string, dim int) (h header, x *rows, g *graph, file *mapping, err error) {
	f, err := os.Open(path) //nolint:gosec // its owner names it
	if err != nil {
		return h, nil, nil, nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return h, nil, nil, nil, err
	}
	if h, x, g, err = load(f, info.Size(), model, dim); err != nil {
		return h, nil, nil, nil, err
	}
	if file, err = mapFile(f, h.vectors(), info.Size()); err != nil {
		return h, nil, nil, nil, err
	}
	x.lay(file.floats())
	return h, x, g, file, nil
}

// store writes a view to a file: all of it, or nothing.
func (v view) store(path, model string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := v.write(f, model); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// memoryFile is a file in memory, for spaces that have none on disk.
type memoryFile struct{ b []byte }

// WriteAt implements io.WriterAt.
func (f *memoryFile) WriteAt(p []byte, at int64) (int, error) {
	if end := int(at) + len(p); end > len(f.b) {
		f.b = append(f.b, make([]byte, end-len(f.b))...)
	}
	return copy(f.b[at:], p), nil
}

// FileMark is the mark that a file was written with, without opening it as a whole; ok is false where it has none.
func FileMark(path string) (mark int64, ok bool) {
	f, err := os.Open(path) //nolint:gosec // its owner names it
	if err != nil {
		return 0, false
	}
	defer f.Close() //nolint:errcheck // read only
	raw := make([]byte, headerSize)
	if _, err := f.ReadAt(raw, 0); err != nil {
		return 0, false
	}
	var h header
	_ = binary.Read(bytes.NewReader(raw), binary.NativeEndian, &h) // long enough: it does not fail
	return h.Mark, string(h.Magic[:]) == fileMagic && h.Order == order && h.Sum == crc32.Checksum(raw[:headerSize-4], castagnoli)
}
