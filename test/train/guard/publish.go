package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"aran/service/infer/heads"
	"aran/service/infer/minilm"
	"aran/service/infer/registry"
)

// trained is what training has made.
type trained struct {
	compact, head []byte
	table         string // what the card says of it
	evaluation    map[string][]registry.Evaluation
}

const (
	compactName = "guard-compact"
	command     = "make train-guard DATA=DIR"
)

// publish writes the files of both models, their manifests and the card's table.
func (t *trained) publish(compact, head, manifests, card string) error {
	data := []registry.Dataset{
		{Name: "garak, in-the-wild jailbreaks, LLMail-Inject, SaTML CTF 2024, Lakera Gandalf, TrustAI, jackhhao, InjecAgent, GPTeacher, GSM8K", Licence: "MIT and Apache-2.0"},
		{Name: "self-instruct, P3", Licence: "Apache-2.0"},
		{Name: "WildGuardMix, harmless part", Licence: "ODC-BY"},
		{Name: "SciFact abstracts", Licence: "ODC-BY"},
		{Name: "service/guard/corpus of this program", Licence: "Apache-2.0"},
	}
	e, err := minilm.Load()
	if err != nil {
		return err
	}
	about := func(base string) *registry.Provenance {
		return &registry.Provenance{Publisher: "Aran", Base: base, Data: data, Made: command + "; docs/guard-model.md is its card"}
	}
	models := []registry.Manifest{
		{
			Name: compactName, Version: "1", Title: "Compact classifier of the guard, inside the program", Kind: registry.Classify, Engine: registry.Inside, Licence: "Apache-2.0",
			Labels: []string{heads.Harmless, heads.Attack}, Weights: filepath.Base(compact), Files: []registry.File{file(compact, t.compact)},
			Provenance: about(""), Evaluation: t.evaluation[compactName],
		},
		{
			Name: heads.InjectionName, Version: "1", Title: "Classifier of the guard on embeddings, inside the program", Kind: registry.Classify, Engine: registry.Inside, Licence: "Apache-2.0",
			Encoder: e.Digest(), Labels: []string{heads.Harmless, heads.Attack}, Weights: filepath.Base(head), Files: []registry.File{file(head, t.head)},
			Provenance: about("all-MiniLM-L6-v2"), Evaluation: t.evaluation[heads.InjectionName],
		},
	}
	errs := []error{write(compact, t.compact), write(head, t.head)}
	for i := range models {
		b, err := json.MarshalIndent(models[i], "", "  ")
		if err == nil {
			b = append(b, '\n')
			_, err = registry.ParseManifest(b)
		}
		errs = append(errs, err, write(filepath.Join(manifests, models[i].Name+".json"), b))
	}
	return errors.Join(append(errs, t.card(card))...)
}

func write(name string, b []byte) error { return os.WriteFile(name, b, 0o644) } //nolint:gosec // files of the repository

func file(name string, b []byte) registry.File {
	return registry.File{Path: filepath.Base(name), Size: int64(len(b)), SHA256: digest(b)}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Marks in the card between which training writes.
const (
	cardFrom = "<!-- written by make train-guard -->\n"
	cardTo   = "<!-- end -->"
)

func (t *trained) card(name string) error {
	b, err := os.ReadFile(name) //nolint:gosec // a file of the repository
	if err != nil {
		return fmt.Errorf("read the model card: %w", err)
	}
	before, rest, ok := bytes.Cut(b, []byte(cardFrom))
	_, after, closed := bytes.Cut(rest, []byte(cardTo))
	if !ok || !closed {
		return fmt.Errorf("%s: the marks %q and %q are missing", name, strings.TrimSpace(cardFrom), cardTo)
	}
	var out bytes.Buffer
	out.Write(before)
	_, _ = fmt.Fprintf(&out, "%s`%s` version 1, %d kB, SHA-256 `%s`\n\n`%s` version 1, %d kB, SHA-256 `%s`\n\n%s%s", cardFrom,
		compactName, (len(t.compact)+999)/1000, digest(t.compact), heads.InjectionName, (len(t.head)+999)/1000, digest(t.head), t.table, cardTo)
	out.Write(after)
	return write(name, out.Bytes())
}
