package ledger

import (
	"encoding/json"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Bundle proves that one event is in the log, with everything that checking it takes. It is what
// `GET /api/v1/audit/proof/{event}` and `aran audit proof` answer.
type Bundle struct {
	Event      string      `json:"event"`
	Index      int64       `json:"index"`      // of the entry, from 0
	Size       int64       `json:"size"`       // of the tree that the checkpoint signs
	Leaf       string      `json:"leaf"`       // the entry; its hash is SHA-256(0x00 || leaf)
	Hashes     []tlog.Hash `json:"hashes"`     // inclusion proof (RFC 6962 §2.1.1), from the leaf upward
	Checkpoint string      `json:"checkpoint"` // signed note
	Key        string      `json:"key"`        // verifier key
}

const maxBundle = 1 << 20

// Prove makes the proof of entry index against a signed checkpoint, and checks it.
func Prove(index int64, leaf, checkpoint []byte, key string, r tlog.HashReader) (Bundle, error) {
	v, err := ParseKey([]byte(key + "\n"))
	if err != nil {
		return Bundle{}, err
	}
	c, err := OpenCheckpoint(checkpoint, v)
	if err != nil {
		return Bundle{}, err
	}
	l, err := ParseLeaf(leaf)
	if err != nil {
		return Bundle{}, err
	}
	if index < 0 || index >= c.Size {
		return Bundle{}, fmt.Errorf("prove entry %d: the checkpoint holds %d", index, c.Size)
	}
	hashes, err := tlog.ProveRecord(c.Size, index, r)
	if err != nil {
		return Bundle{}, fmt.Errorf("prove entry %d: %w", index, err)
	}
	b := Bundle{Event: l.ID, Index: index, Size: c.Size, Leaf: string(leaf), Hashes: hashes, Checkpoint: string(checkpoint), Key: key}
	if b.Hashes == nil {
		b.Hashes = []tlog.Hash{}
	}
	return b, b.check(v)
}

// CheckProof reads a bundle and checks it against the verifier key that the caller trusts; with key "" against
// its own, which only says that it fits together.
func CheckProof(text []byte, key string) (Bundle, error) {
	if len(text) > maxBundle {
		return Bundle{}, broken("the proof has %d bytes", len(text))
	}
	var b Bundle
	if err := json.Unmarshal(text, &b); err != nil {
		return Bundle{}, broken("the proof is not JSON: %w", err)
	}
	if key == "" {
		key = b.Key
	}
	v, err := ParseKey([]byte(key + "\n"))
	if err != nil {
		return Bundle{}, err
	}
	if b.Key != key {
		return Bundle{}, broken("the proof names another key than the trusted one")
	}
	return b, b.check(v)
}

func (b Bundle) check(v note.Verifier) error {
	c, err := OpenCheckpoint([]byte(b.Checkpoint), v)
	if err != nil {
		return err
	}
	l, err := ParseLeaf([]byte(b.Leaf))
	if err != nil {
		return err
	}
	if l.ID != b.Event || c.Size != b.Size || b.Index < 0 || b.Index >= b.Size {
		return broken("the proof's event, index or size is not that of its leaf and checkpoint")
	}
	if err := tlog.CheckRecord(b.Hashes, c.Size, c.Root, b.Index, tlog.RecordHash([]byte(b.Leaf))); err != nil {
		return broken("the proof: %w", err)
	}
	return nil
}
