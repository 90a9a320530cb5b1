package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"aran/service/guard/classify/train"
	"aran/service/guard/corpus"
	"aran/service/guard/measure"
	"aran/service/infer/minilm"
)

// groups are sources that share texts or templates: they are left out together.
var groups = map[string]string{ //nolint:gochecknoglobals // a table
	"inthewild_jailbreaks": "verazuo", "promptarmor_trustai_in-the-wild": "verazuo", "garak_dan": "verazuo",
	"promptarmor_jackhhao_jailbreak": "verazuo",
	"injecagent":                     "injecagent", "injecagent_benign": "injecagent",
}

var errData = errors.New("DATA is a folder of *.jsonl with lines of {\"text\", \"label\", \"source\"}, label 1 for an attack: make train-guard DATA=DIR")

// read gives the rows of the folder, of package corpus, and of clean documents.
func read(data, clean string) (out []train.Row, err error) {
	if info, err := os.Stat(data); data == "" || err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%q is no folder; %w", data, errData)
	}
	given, err := measure.Read(os.DirFS(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", data, err)
	}
	useless := 0
	for _, r := range given {
		label := 0
		if r.Attack {
			label = 1
		}
		label, keep := corpus.Mend(r.Source, r.Text, label)
		if !keep {
			useless++
			continue
		}
		out = append(out, train.Row{Text: r.Text, Attack: label == 1, Source: r.Source, Group: group(r.Source)})
	}
	log.Printf("%d given rows tell nothing and are not trained on", useless)
	own, err := corpus.Rows()
	if err != nil {
		return nil, err
	}
	for _, r := range own {
		hard := r.Label == 0 && (r.Family == "trigger" || r.Family == "minimal_pair")
		out = append(out, train.Row{Text: r.Text, Attack: r.Label == 1, Source: r.Source, Group: group(r.Source), Hard: hard})
	}
	if clean != "" {
		if out, err = documents(out, clean); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func group(source string) string {
	if g := groups[source]; g != "" {
		return g
	}
	return source
}

func documents(out []train.Row, file string) ([]train.Row, error) {
	b, err := os.ReadFile(file) //nolint:gosec // whoever runs the command names the file
	if err != nil {
		return nil, fmt.Errorf("read the clean documents: %w", err)
	}
	for line := range bytes.Lines(b) {
		var d struct{ Title, Text string }
		if err := json.Unmarshal(line, &d); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		out = append(out, train.Row{Text: d.Title + "\n\n" + d.Text, Source: "scifact", Group: "scifact"})
	}
	return out, nil
}

// pieceVectors are the word pieces of the encoder in the program that are Latin or ASCII, and the vector that the encoder
// gives to each alone. Making them takes half a minute of processor time: they are kept in a folder.
func pieceVectors(ctx context.Context, cache string) ([]string, [][]float32, error) {
	e, err := minilm.Load()
	if err != nil {
		return nil, nil, err
	}
	pieces := slices.DeleteFunc(e.Tokenizer().Pieces(), func(p string) bool {
		in := strings.TrimPrefix(p, "##")
		return in == "" || strings.HasPrefix(p, "[") && len(p) > 1 || strings.ContainsFunc(in, func(r rune) bool { return r >= utf8.RuneSelf && !unicode.Is(unicode.Latin, r) })
	})
	file := filepath.Join(cache, e.Digest()[:16]+".f32")
	b, err := os.ReadFile(file) //nolint:gosec // a file of the trainer's
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read the vectors: %w", err)
	}
	if len(b) != 4*minilm.Dim*len(pieces) {
		log.Printf("encoding %d word pieces", len(pieces))
		texts := make([]string, len(pieces))
		for i, p := range pieces {
			texts[i] = strings.TrimPrefix(p, "##")
		}
		b = nil
		for part := range slices.Chunk(texts, 512) {
			all, err := e.Encode(ctx, part)
			if err != nil {
				return nil, nil, err
			}
			for _, v := range all {
				if b, err = binary.Append(b, binary.LittleEndian, v.Vector); err != nil {
					return nil, nil, fmt.Errorf("write a vector: %w", err)
				}
			}
		}
		if err := errors.Join(os.MkdirAll(cache, 0o755), os.WriteFile(file, b, 0o644)); err != nil { //nolint:gosec // not secret
			return nil, nil, fmt.Errorf("keep the vectors: %w", err)
		}
	}
	numbers := make([]float32, len(b)/4)
	if _, err := binary.Decode(b, binary.LittleEndian, numbers); err != nil {
		return nil, nil, fmt.Errorf("read the vectors: %w", err)
	}
	return pieces, slices.Collect(slices.Chunk(numbers, minilm.Dim)), nil
}
