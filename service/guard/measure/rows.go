package measure

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"
)

// Row is one text of which is known what it is.
type Row struct {
	Text   string
	Attack bool
	Source string
}

const longestLine = 16 << 20 // bytes

// Read returns the rows of all *.jsonl in a folder, by file name and then as they stand there. A line is
// {"text", "label", "source"?}: label is 1 for an attack and 0 for what is harmless, without source the file's name
// without its ending is taken, further keys are passed over. A line that can't be used is an error that names it: nothing
// is left out.
func Read(dir fs.FS) ([]Row, error) {
	names, err := fs.Glob(dir, "*.jsonl")
	if err != nil {
		return nil, fmt.Errorf("list the folder: %w", err)
	}
	if len(names) == 0 {
		return nil, errors.New(`there is no *.jsonl in the folder: want lines of {"text", "label", "source"?}`)
	}
	var out []Row
	for _, name := range names {
		rows, err := readFile(dir, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, rows...)
	}
	if len(out) == 0 {
		return nil, errors.New("there are no texts in the folder")
	}
	return out, nil
}

func readFile(dir fs.FS, name string) (out []Row, err error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was read only
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, longestLine)
	n := 1
	for ; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		r, err := parseRow(lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if r.Source == "" {
			r.Source = strings.TrimSuffix(path.Base(name), ".jsonl")
		}
		out = append(out, r)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n, err)
	}
	return out, nil
}

func parseRow(line []byte) (Row, error) {
	var r struct {
		Text   *string         `json:"text"`
		Label  json.RawMessage `json:"label"`
		Source string          `json:"source"`
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return Row{}, fmt.Errorf("read: %w", err)
	}
	if r.Text == nil || !utf8.ValidString(*r.Text) {
		return Row{}, errors.New("it has no text")
	}
	switch strings.Trim(string(r.Label), `"`) {
	case "1", "1.0", "true":
		return Row{*r.Text, true, r.Source}, nil
	case "0", "0.0", "false":
		return Row{*r.Text, false, r.Source}, nil
	}
	return Row{}, fmt.Errorf("its label is %.50q, want 1 (attack) or 0", r.Label)
}
