// Package split chooses between targets by weight (A/B, canary, shadow), and decides step by step whether a change
// goes on or goes back.
//
// It knows names and numbers only: what a target is, who calls it and what a failure is are the caller's. A key's
// choice depends on nothing but the salt, the key and the weights, so every replica and every restart makes the
// same one; raising a target's weight moves keys to that target and never moves one away from it.
package split

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// Target is a choice. Weights count in relation to each other; one of weight 0 is never chosen.
type Target struct {
	Name   string
	Weight float64
}

// Bounds of a split.
const (
	maxTargets = 64
	maxWeight  = 1e9
)

// Split is a weighted choice. It never changes: for other weights make another one with the same salt. Safe for
// concurrent use.
type Split struct {
	salt    uint64
	targets []Target
	seeds   []uint64
	sum     float64
}

// New makes a split. Splits of different salts choose independently of each other.
func New(salt string, targets ...Target) (*Split, error) {
	if len(targets) == 0 || len(targets) > maxTargets {
		return nil, fmt.Errorf("split: %d targets, want 1 to %d", len(targets), maxTargets)
	}
	s := &Split{salt: hash(offset, salt), targets: append([]Target(nil), targets...), seeds: make([]uint64, len(targets))}
	for i, t := range targets {
		if !(t.Weight >= 0 && t.Weight <= maxWeight) {
			return nil, fmt.Errorf("split: weight %v of %.100q: use 0 to %g", t.Weight, t.Name, maxWeight)
		}
		for _, other := range targets[:i] {
			if other.Name == t.Name {
				return nil, fmt.Errorf("split: target %.100q stands there twice", t.Name)
			}
		}
		s.seeds[i] = hash(s.salt, t.Name)
		s.sum += t.Weight
	}
	if s.sum == 0 {
		return nil, errors.New("split: every weight is 0")
	}
	return s, nil
}

// Pick returns the key's target. An empty key stands for a call that belongs to nobody: its choice is random.
//
// It is weighted rendezvous hashing (Schindelhauer & Schomaker 2005, "logarithmic method"): a target's score of a
// key grows with its weight and with nothing else, and the highest one wins.
func (s *Split) Pick(key string) string {
	if key == "" {
		return s.random()
	}
	best, top := -1, math.Inf(-1)
	for i, t := range s.targets {
		if t.Weight == 0 {
			continue
		}
		if score := -t.Weight / math.Log(unit(hash(s.seeds[i], key))); best < 0 || score > top {
			best, top = i, score
		}
	}
	return s.targets[best].Name
}

func (s *Split) random() string {
	at := rand.Float64() * s.sum //nolint:gosec // not a secret
	last := ""
	for _, t := range s.targets {
		if t.Weight == 0 {
			continue
		}
		if last = t.Name; at < t.Weight {
			break
		}
		at -= t.Weight
	}
	return last
}

// Share is a target's part of the calls, 0 to 1; of one that is not there, 0.
func (s *Split) Share(name string) float64 {
	for _, t := range s.targets {
		if t.Name == name {
			return t.Weight / s.sum
		}
	}
	return 0
}

// Sampled reports whether the key is among the share (0 to 1) that is copied to a shadow. A key that is stays so
// when the share grows. An empty key is sampled at random.
func (s *Split) Sampled(key string, share float64) bool {
	if key == "" {
		return rand.Float64() < share //nolint:gosec // not a secret
	}
	return unit(hash(s.salt, key)) < share
}

// FNV-1a's numbers, 64 bits.
const (
	offset = 14695981039346656037
	prime  = 1099511628211
)

// hash is FNV-1a from a seed, mixed by the finaliser of MurmurHash3, so that short keys that differ in one letter
// lie far apart. It is part of what replicas agree on and never changes.
func hash(seed uint64, s string) uint64 {
	h := seed ^ offset
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * prime
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// unit maps a hash to a number between 0 and 1, both excluded.
func unit(h uint64) float64 { return (float64(h>>11) + .5) / (1 << 53) }
