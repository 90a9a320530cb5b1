// Package ledger is the form of the audit log and its proofs, for the service that writes it and for tools that
// check it without one.
//
// It owns the bytes: the leaf of an entry, the Merkle tree over the leaves (RFC 6962), the signed checkpoint
// (C2SP tlog-checkpoint), the files of an export (C2SP tlog-tiles) and the proof of one entry. It only ever reads
// a data directory, takes no lock, and decrypts nothing. The one thing a caller must know: what verifies here was
// signed by the log's key; that the key is the right one, only a copy kept elsewhere can tell.
package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrBroken is in the chain of every error that says that a log, export or proof does not verify, as opposed to
// one that could not be read.
var ErrBroken = errors.New("the log does not verify")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrBroken, fmt.Errorf(format, args...))
}

// MaxLeaf is the size of the largest leaf: entry bundles give its length in 16 bits.
const MaxLeaf = 1<<16 - 1

const timeFormat = "2006-01-02T15:04:05.000000Z"

// Leaf is an entry as the tree holds it. Its fields stand in alphabetical order: the JSON that Encode writes is
// the only one that ParseLeaf takes.
type Leaf struct {
	Actor  string `json:"actor"`            // keyed hash of who caused the event
	Erased bool   `json:"erased,omitempty"` // the actor was erased before the event was recorded: nothing is sealed
	ID     string `json:"id"`               // of the event
	Sealed []byte `json:"sealed"`           // actor, subject, source and data, under the actor's key; bound to the event's id
	Tenant string `json:"tenant"`
	Time   string `json:"time"` // UTC, microseconds
	Type   string `json:"type"`
	V      int    `json:"v"` // 1
}

// At formats a time as a leaf holds it.
func At(t time.Time) string { return t.UTC().Format(timeFormat) }

// Encode returns the leaf's bytes, or an error when ParseLeaf would refuse them.
func (l Leaf) Encode() ([]byte, error) {
	b, err := l.bytes()
	if err != nil {
		return nil, err
	}
	if _, err := ParseLeaf(b); err != nil {
		return nil, err
	}
	return b, nil
}

func (l Leaf) bytes() ([]byte, error) {
	var w bytes.Buffer
	enc := json.NewEncoder(&w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l); err != nil {
		return nil, fmt.Errorf("encode leaf: %w", err)
	}
	return bytes.TrimSuffix(w.Bytes(), []byte("\n")), nil
}

// ParseLeaf reads a leaf and refuses any bytes that Encode would not have written.
func ParseLeaf(b []byte) (Leaf, error) {
	if len(b) > MaxLeaf {
		return Leaf{}, broken("a leaf has %d bytes, at most %d", len(b), MaxLeaf)
	}
	var l Leaf
	if err := json.Unmarshal(b, &l); err != nil {
		return Leaf{}, broken("a leaf is not JSON: %w", err)
	}
	again, err := l.bytes()
	switch {
	case err != nil:
		return Leaf{}, broken("a leaf cannot be written again: %w", err)
	case !bytes.Equal(again, b):
		return Leaf{}, broken("a leaf is not in its canonical form")
	case l.V != 1:
		return Leaf{}, broken("a leaf has version %d", l.V)
	case l.ID == "" || l.Type == "":
		return Leaf{}, broken("a leaf lacks id or type")
	}
	if t, err := time.Parse(timeFormat, l.Time); err != nil || At(t) != l.Time {
		return Leaf{}, broken("a leaf has the time %q", l.Time)
	}
	return l, nil
}
