// Command pack writes the packed model that minilm carries.
//
//	go run ./service/infer/minilm/pack -from DIR -to service/infer/minilm/minilm.bin
//
// DIR holds model.safetensors and vocab.txt of sentence-transformers/all-MiniLM-L6-v2 (where
// to get them: docs/third-party.md). Both are checked against the digests below. The result
// depends on nothing else, so that anyone can make the same bytes again.
package main

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	modelDigest = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
	vocabDigest = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
)

//go:embed chars.txt
var chars string

func main() {
	from := flag.String("from", ".", "folder with model.safetensors and vocab.txt")
	to := flag.String("to", "minilm.bin", "file to write")
	flag.Parse()
	if err := run(*from, *to, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run(from, to string, log io.Writer) error {
	model, err := read(filepath.Join(from, "model.safetensors"), modelDigest)
	if err != nil {
		return err
	}
	vocab, err := read(filepath.Join(from, "vocab.txt"), vocabDigest)
	if err != nil {
		return err
	}
	tensors, err := parse(model)
	if err != nil {
		return fmt.Errorf("read model.safetensors: %w", err)
	}
	var out bytes.Buffer
	if err := tokenizer(&out, string(vocab), chars); err != nil {
		return fmt.Errorf("pack the tokenizer: %w", err)
	}
	if err := weights(&out, tensors); err != nil {
		return fmt.Errorf("pack the weights: %w", err)
	}
	if err := os.WriteFile(to, out.Bytes(), 0o600); err != nil {
		return err
	}
	sum := sha256.Sum256(out.Bytes())
	_, err = fmt.Fprintf(log, "%s: %d bytes, sha256 %x\n", to, out.Len(), sum)
	return err
}

func read(path, digest string) ([]byte, error) {
	b, err := os.ReadFile(path) //nolint:gosec // the operator names the folder
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != digest {
		return nil, fmt.Errorf("%s is not the expected file: sha256 %x, want %s", path, sum, digest)
	}
	return b, nil
}
