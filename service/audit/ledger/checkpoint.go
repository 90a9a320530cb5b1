package ledger

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is the state of the log that its key signs (C2SP tlog-checkpoint).
type Checkpoint struct {
	Origin string // names the log; also the name of its key
	Size   int64  // number of entries
	Root   tlog.Hash
}

const (
	maxCheckpoint = 4 << 10
	maxKey        = 1 << 10
)

func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
}

// Sign returns the signed note. The checkpoint's origin must be the signer's name.
func (c Checkpoint) Sign(s note.Signer) ([]byte, error) {
	if c.Origin != s.Name() {
		return nil, fmt.Errorf("sign checkpoint: origin %q is not the key's name %q", c.Origin, s.Name())
	}
	b, err := note.Sign(&note.Note{Text: c.text()}, s)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return b, nil
}

// OpenCheckpoint reads a signed note that holds nothing but a checkpoint of this log and one signature by its key.
// There is one way to write it: any other bytes are refused.
func OpenCheckpoint(msg []byte, v note.Verifier) (Checkpoint, error) {
	if len(msg) > maxCheckpoint {
		return Checkpoint{}, broken("the checkpoint has %d bytes", len(msg))
	}
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, broken("the checkpoint's signature: %w", err)
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return Checkpoint{}, broken("the checkpoint has %d signatures, want one", len(n.Sigs)+len(n.UnverifiedSigs))
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64)
	if err != nil {
		return Checkpoint{}, broken("the checkpoint's signature: %w", err)
	}
	again := fmt.Sprintf("%s\n— %s %s\n", n.Text, v.Name(), base64.StdEncoding.EncodeToString(sig))
	if again != string(msg) {
		return Checkpoint{}, broken("the checkpoint is not in its canonical form")
	}
	return parseCheckpoint(n.Text, v.Name())
}

func parseCheckpoint(text, origin string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[0] != origin {
		return Checkpoint{}, broken("the checkpoint is not one of %s", origin)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return Checkpoint{}, broken("the checkpoint has the size %q", lines[1])
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, broken("the checkpoint's root: %w", err)
	}
	c := Checkpoint{Origin: origin, Size: size, Root: root}
	if c.text() != text {
		return Checkpoint{}, broken("the checkpoint is not in its canonical form")
	}
	return c, nil
}

// NewKey makes an Ed25519 key for a log of that name, as note.NewSigner and note.NewVerifier take them.
func NewKey(origin string) (signer, verifier string, err error) {
	signer, verifier, err = note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return "", "", fmt.Errorf("make the log's key: %w", err)
	}
	return signer, verifier, nil
}

// KeyLine checks the content of a verifier key file and returns the key as CheckProof takes it.
func KeyLine(file []byte) (string, error) {
	if _, err := ParseKey(file); err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(file), "\n"), nil
}

// ParseKey reads the content of a verifier key file: one line, written in the one way there is.
func ParseKey(file []byte) (note.Verifier, error) {
	line, ok := bytes.CutSuffix(file, []byte("\n"))
	if !ok || len(file) > maxKey {
		return nil, broken("the verifier key is not one line")
	}
	v, err := note.NewVerifier(string(line))
	if err != nil {
		return nil, broken("the verifier key: %w", err)
	}
	parts := strings.SplitN(string(line), "+", 3)
	key, err := base64.StdEncoding.Strict().DecodeString(parts[len(parts)-1])
	if err != nil || len(key) != 1+ed25519.PublicKeySize {
		return nil, broken("the verifier key is not an Ed25519 key")
	}
	again, err := note.NewEd25519VerifierKey(v.Name(), ed25519.PublicKey(key[1:]))
	if err != nil || again != string(line) {
		return nil, broken("the verifier key is not in its canonical form")
	}
	return v, nil
}
