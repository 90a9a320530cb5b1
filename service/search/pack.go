package search

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"

	"aran/platform/fault"
	"aran/service/search/chunk"
)

// indexFormat is part of a pack's mark in the database: it changes when the words index changes, so that packs are installed again.
const indexFormat = "1"

// Pack is a collection that comes with the program: documents, cut and encoded beforehand.
type Pack struct {
	Collection  string         `json:"collection"`
	Description string         `json:"description"`
	Encoder     string         `json:"encoder"` // digest
	Dim         int            `json:"dim"`
	Documents   []PackDocument `json:"documents"`
}

// PackDocument is one document of a pack.
type PackDocument struct {
	ID          string        `json:"id"`
	Title       string        `json:"title"`
	Text        string        `json:"text"`
	ContentType string        `json:"content_type"`
	Source      string        `json:"source"` // where the text stands in the repository
	Passages    []PackPassage `json:"passages"`
}

// PackPassage is a passage and its unit vector. A pack keeps vectors in 8 bits a number; their cosine with the original is above 0.999.
type PackPassage struct {
	Start    int       `json:"start"`
	End      int       `json:"end"`
	Headings []string  `json:"headings,omitempty"`
	Vector   []float32 `json:"-"`
	Packed   string    `json:"vector"` // base64 of int8, to be scaled to unit length
}

const maxPack = 64 << 20 // bytes, unpacked

// Cut makes the passages of a pack's document, as ingestion would, and the texts that the encoder is to see.
func (c Config) Cut(title, contentType, text string, count func(string) int) (passages []PackPassage, contexts []string) {
	s := Service{cfg: c, count: count}
	ps := s.passages(title, contentType, text)
	for _, p := range ps {
		passages = append(passages, PackPassage{Start: p.Start, End: p.End, Headings: p.Headings})
	}
	return passages, s.contexts(title, text, ps)
}

// Encode makes the same bytes of the same pack.
func (p Pack) Encode() ([]byte, error) {
	for i := range p.Documents {
		for j := range p.Documents[i].Passages {
			x := &p.Documents[i].Passages[j]
			if len(x.Vector) != p.Dim {
				return nil, fmt.Errorf("pack: passage %d of %s has %d numbers, not %d", j, p.Documents[i].ID, len(x.Vector), p.Dim)
			}
			x.Packed = quantised(x.Vector)
		}
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(z).Encode(p); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return out.Bytes(), nil
}

func quantised(v []float32) string {
	var most float64
	for _, f := range v {
		most = max(most, math.Abs(float64(f)))
	}
	b := make([]byte, len(v))
	for i, f := range v {
		if most > 0 {
			b[i] = byte(int8(math.Round(float64(f) / most * 127))) //nolint:gosec // the bits of a number within ±127
		}
	}
	return base64.StdEncoding.EncodeToString(b)
}

// DecodePack reads what Encode made.
func DecodePack(raw []byte) (p Pack, err error) {
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return p, fmt.Errorf("pack: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(z, maxPack))
	if err != nil {
		return p, fmt.Errorf("pack: %w", err)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("pack: %w", err)
	}
	for _, d := range p.Documents {
		for i := range d.Passages {
			x := &d.Passages[i]
			if x.Start < 0 || x.Start >= x.End || x.End > len(d.Text) {
				return p, fmt.Errorf("pack: passage %d of %s stands at [%d,%d) of %d bytes", i, d.ID, x.Start, x.End, len(d.Text))
			}
			if x.Vector, err = restored(x.Packed, p.Dim); err != nil {
				return p, fmt.Errorf("pack: passage %d of %s: %w", i, d.ID, err)
			}
		}
	}
	return p, nil
}

func restored(s string, dim int) ([]float32, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, err
	}
	if len(b) != dim || dim == 0 {
		return nil, fmt.Errorf("%d numbers, not %d", len(b), dim)
	}
	v, squares := make([]float32, dim), 0.0
	for i, c := range b {
		v[i] = float32(int8(c)) //nolint:gosec // the bits of a number within ±127
		squares += float64(v[i]) * float64(v[i])
	}
	if squares == 0 {
		return nil, fmt.Errorf("a vector of zeros")
	}
	for i := range v {
		v[i] = float32(float64(v[i]) / math.Sqrt(squares))
	}
	return v, nil
}

// ImportPack installs a pack as a public collection of the platform, unless this very pack is installed. When it
// returns, searches find it.
func (s *Service) ImportPack(ctx context.Context, raw []byte) error {
	mark := digest(string(raw)) + "-" + indexFormat
	if there, err := s.db.hasPack(ctx, mark); err != nil || there {
		return err
	}
	began := time.Now()
	p, err := DecodePack(raw)
	if err != nil {
		return err
	}
	c := Collection{Name: p.Collection, Settings: DefaultSettings(), Owner: "service:search", Public: true, Encoder: p.Encoder, Created: now(), tenant: SystemTenant, pack: mark}
	c.Description = p.Description
	var list []packed
	for _, d := range p.Documents {
		x := Document{
			ID: d.ID, Title: d.Title, Text: d.Text, ContentType: d.ContentType, Source: d.Source, Owner: c.Owner,
			Trust: TrustBuiltIn, Status: StatusQueued, Metadata: map[string]string{}, Access: []string{}, Created: c.Created, Updated: c.Created,
		}
		if err := checkDocument(x); err != nil {
			return fmt.Errorf("pack: document %s: %w", d.ID, err)
		}
		x.digest = x.fingerprint()
		list = append(list, packed{x, packedPart(c, d)})
	}
	if err := s.db.installPack(ctx, c, p.Encoder, list); err != nil {
		return fmt.Errorf("install collection %s: %w", p.Collection, err)
	}
	fault.Point("search.pack_installed")
	s.nudge()
	s.log.LogAttrs(ctx, slog.LevelInfo, "collection installed", slog.String("collection", p.Collection), slog.Int("documents", len(list)), slog.Duration("took", time.Since(began)))
	return nil
}

func packedPart(c Collection, d PackDocument) indexed {
	ps := make([]chunk.Passage, len(d.Passages))
	vectors := make([][]float32, len(d.Passages))
	for i, p := range d.Passages {
		ps[i] = chunk.Passage{Start: p.Start, End: p.End, Headings: p.Headings}
		vectors[i] = p.Vector
	}
	return makePart(c, c.language(d.Text), d.Title, d.Text, 0, ps, vectors)
}
