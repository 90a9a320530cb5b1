package ledger

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func TestTilePath(t *testing.T) {
	for _, c := range []struct {
		level    string
		n, width int64
		want     string
	}{
		{"0", 0, 256, "tile/0/000"},
		{"2", 5, 7, "tile/2/005.p/7"},
		{"entries", 1234067, 256, "tile/entries/x001/x234/067"},
		{"0", 1000, 255, "tile/0/x001/000.p/255"},
	} {
		if got := tilePath(c.level, c.n, c.width); got != c.want {
			t.Errorf("tile %s %d of %d is %s, want %s", c.level, c.n, c.width, got, c.want)
		}
	}
}

// The library's own tile reader, that knows nothing of us, finds and proves every entry in our tiles, over three levels.
func TestTilesServeOtherClients(t *testing.T) {
	const n = 66_000
	files := tileFiles{}
	x := &tiler{put: func(path string, content []byte) error { files[path] = slices.Clone(content); return nil }}
	for i := range n {
		if err := x.add(fmt.Append(nil, "entry ", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.finish(); err != nil {
		t.Fatal(err)
	}
	root, err := x.front.Root()
	if err != nil {
		t.Fatal(err)
	}
	reader := tlog.TileHashReader(tlog.Tree{N: n, Hash: root}, files)
	for _, i := range []int64{0, 1, 255, 256, 65_535, 65_536, n - 1} {
		bundle := files[tilePath("entries", i/256, min(256, n-i/256*256))]
		var entry []byte
		for range i%256 + 1 {
			size := binary.BigEndian.Uint16(bundle)
			entry, bundle = bundle[2:2+size], bundle[2+size:]
		}
		if string(entry) != fmt.Sprint("entry ", i) {
			t.Errorf("entry %d is %q", i, entry)
		}
		proof, err := tlog.ProveRecord(n, i, reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proof, n, root, i, tlog.RecordHash(entry)); err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
	}
}

// tileFiles serves tiles in the layout of C2SP tlog-tiles: the library's without the height.
type tileFiles map[string][]byte

func (tileFiles) Height() int                         { return tileHeight }
func (tileFiles) SaveTiles(_ []tlog.Tile, _ [][]byte) {}

func (f tileFiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(want))
	for i, w := range want {
		path := "tile/" + strconv.Itoa(w.L) + "/" + strings.SplitN(w.Path(), "/", 4)[3]
		if out[i] = f[path]; out[i] == nil {
			return nil, fmt.Errorf("there is no %s", path)
		}
	}
	return out, nil
}
