package ledger

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// tileWidth is how many hashes or entries a full tile holds (C2SP tlog-tiles: tiles of height 8).
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// tiler turns leaves into the files of a tlog-tiles log, one after the other, holding one tile a level in memory.
type tiler struct {
	put    func(path string, content []byte) error // content is only valid during the call
	front  Frontier
	levels []tile
	bundle tile
}

type tile struct {
	index, count int64
	content      []byte
}

func (t *tiler) add(leaf []byte) error {
	t.bundle.content = binary.BigEndian.AppendUint16(t.bundle.content, uint16(len(leaf))) //nolint:gosec // ParseLeaf bounds it
	t.bundle.content = append(t.bundle.content, leaf...)
	if err := t.full(&t.bundle, "entries"); err != nil {
		return err
	}
	for height, node := range t.front.Add(tlog.RecordHash(leaf)) {
		if height%tileHeight != 0 {
			continue
		}
		level := height / tileHeight
		if level == len(t.levels) {
			t.levels = append(t.levels, tile{})
		}
		t.levels[level].content = append(t.levels[level].content, node[:]...)
		if err := t.full(&t.levels[level], strconv.Itoa(level)); err != nil {
			return err
		}
	}
	return nil
}

// full counts one more element, and puts the tile when it is complete.
func (t *tiler) full(x *tile, level string) error {
	if x.count++; x.count < tileWidth {
		return nil
	}
	if err := t.put(tilePath(level, x.index, tileWidth), x.content); err != nil {
		return err
	}
	x.index, x.count, x.content = x.index+1, 0, x.content[:0]
	return nil
}

// finish puts the partial tiles of the right edge.
func (t *tiler) finish() error {
	for level, x := range t.levels {
		if err := t.partial(x, strconv.Itoa(level)); err != nil {
			return err
		}
	}
	return t.partial(t.bundle, "entries")
}

func (t *tiler) partial(x tile, level string) error {
	if x.count == 0 {
		return nil
	}
	return t.put(tilePath(level, x.index, x.count), x.content)
}

// tilePath is `tile/<L>/<N>[.p/<W>]` with N in groups of three digits: 1234067 is x001/x234/067.
func tilePath(level string, n, width int64) string {
	groups := []string{fmt.Sprintf("%03d", n%1000)}
	for n /= 1000; n > 0; n /= 1000 {
		groups = append([]string{fmt.Sprintf("x%03d", n%1000)}, groups...)
	}
	path := "tile/" + level + "/" + strings.Join(groups, "/")
	if width < tileWidth {
		path += ".p/" + strconv.FormatInt(width, 10)
	}
	return path
}
