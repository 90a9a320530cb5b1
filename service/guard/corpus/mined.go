package corpus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
)

// mined reads what was taken from other people's packages: data/mined/*.jsonl, a row a line.
func mined() ([]Row, error) {
	names, err := fs.Glob(files, "data/mined/*.jsonl")
	if err != nil {
		return nil, fmt.Errorf("list mined rows: %w", err)
	}
	var out []Row
	for _, n := range names {
		b, err := files.ReadFile(n)
		if err != nil {
			return nil, fmt.Errorf("read mined rows: %w", err)
		}
		for d := json.NewDecoder(bytes.NewReader(b)); d.More(); {
			var r struct {
				Text, Source, Family, Lang, Licence string
				Label                               int
			}
			if err := d.Decode(&r); err != nil {
				return nil, fmt.Errorf("mined rows %s: %w", n, err)
			}
			out = append(out, Row{Text: r.Text, Label: r.Label, Source: r.Source, Family: r.Family, Lang: r.Lang, Licence: r.Licence})
		}
	}
	return out, nil
}
