package classify

import "slices"

// Extractor gives the features that training needs: the same that Score weighs. Safe for concurrent use.
type Extractor struct {
	concept *concepts
	pieces  *table
}

// Sample is the features of one window of a text.
type Sample struct {
	Grams  []uint64 // hashes of words and of pairs of words, each once, rising
	Pieces []uint64 // hashes of word pieces, as often as they stand there
	Dense  []Value  // the rest
}

// Value is a dense feature.
type Value struct {
	ID    int
	Value float32
}

// NewExtractor takes the word pieces that are looked for, as BERT's vocabularies spell them.
func NewExtractor(pieces []string) (*Extractor, error) {
	c, err := parseConcepts(conceptsFile)
	if err != nil {
		return nil, err
	}
	x := &Extractor{c, newTable(len(pieces))}
	for _, p := range pieces {
		x.pieces.put(PieceHash(p), 0)
	}
	return x, nil
}

// Concepts are the names of the concepts, in their order, and Features the form of the features: both belong into a
// model's header.
func (x *Extractor) Concepts() []string { return x.concept.names }

// Features names the form of the features.
func (x *Extractor) Features() string { return featuresVersion }

// DenseNames says what each of the dense features is.
func (x *Extractor) DenseNames() []string {
	c := x.concept.names
	out := slices.Clone(c)
	for _, n := range c {
		out = append(out, "first "+n)
	}
	for _, a := range c {
		for _, b := range c {
			out = append(out, a+" … "+b)
		}
	}
	return append(out, "length", "marks", "foreign", "numbers", "asks", "begins", "long")
}

// Windows gives the features of each window of a text in plain form; read, if not nil, is told each gram as it is spelt.
func (x *Extractor) Windows(plain string, read func(h uint64, gram string)) []Sample {
	words := split(plain, x.concept)
	s := &scratch{dense: make([]uint32, denseSize(len(x.concept.names)))}
	var out []Sample
	for w := range windows(len(words)) {
		var f Sample
		s.next()
		part := words[w.from:w.to]
		s.each(part, w, len(words), len(x.concept.names), func(h uint64) { f.Grams = append(f.Grams, h) }, func(id int, v float32) {
			f.Dense = append(f.Dense, Value{id, v})
		})
		slices.Sort(f.Grams)
		f.Grams = slices.Compact(f.Grams)
		for i, p := range part {
			eachPiece(plain[p.start:p.end], x.pieces, func(h uint64) { f.Pieces = append(f.Pieces, h) })
			if read == nil {
				continue
			}
			read(p.hash, plain[p.start:p.end])
			if i > 0 {
				read(pair(part[i-1].hash, p.hash), plain[part[i-1].start:part[i-1].end]+" "+plain[p.start:p.end])
			}
		}
		out = append(out, f)
	}
	return out
}
