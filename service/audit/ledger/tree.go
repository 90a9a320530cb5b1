package ledger

import (
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Frontier is the right edge of a growing Merkle tree (RFC 6962 §2.1): the roots of its complete subtrees, the
// largest first. The zero value is the empty tree.
type Frontier struct {
	size  int64
	nodes []tlog.Hash
}

// Resume returns the frontier of a tree of size leaves whose nodes are stored in the order of tlog.StoredHashIndex.
func Resume(size int64, r tlog.HashReader) (*Frontier, error) {
	f := &Frontier{size: size}
	var at []int64
	for offset := int64(0); offset < size; {
		level := bits.Len64(uint64(size-offset)) - 1 //nolint:gosec // positive
		at = append(at, tlog.StoredHashIndex(level, offset>>level))
		offset += 1 << level
	}
	if len(at) == 0 {
		return f, nil
	}
	var err error
	if f.nodes, err = r.ReadHashes(at); err != nil {
		return nil, fmt.Errorf("read the edge of the tree: %w", err)
	}
	return f, nil
}

// Add appends a leaf and returns the nodes that this completes, the leaf's first, each one level above the one
// before: exactly what stands at tlog.StoredHashIndex(0, old size) and after.
func (f *Frontier) Add(leaf tlog.Hash) []tlog.Hash {
	made := []tlog.Hash{leaf}
	node := leaf
	for n := f.size; n&1 == 1; n >>= 1 {
		last := len(f.nodes) - 1
		node = tlog.NodeHash(f.nodes[last], node)
		f.nodes = f.nodes[:last]
		made = append(made, node)
	}
	f.nodes = append(f.nodes, node)
	f.size++
	return made
}

// Size is the number of leaves.
func (f *Frontier) Size() int64 { return f.size }

// Root is the hash of the whole tree.
func (f *Frontier) Root() (tlog.Hash, error) {
	if f.size == 0 {
		return tlog.TreeHash(0, nil)
	}
	root := f.nodes[len(f.nodes)-1]
	for i := len(f.nodes) - 2; i >= 0; i-- {
		root = tlog.NodeHash(f.nodes[i], root)
	}
	return root, nil
}

// Clone returns a frontier that grows apart from this one.
func (f *Frontier) Clone() *Frontier { return &Frontier{size: f.size, nodes: slices.Clone(f.nodes)} }
