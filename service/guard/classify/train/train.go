package train

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"aran/service/guard/canon"
	"aran/service/guard/classify"
	"aran/service/guard/detect"
)

// Row is one text that is known to be an attack, or harmless.
type Row struct {
	Text   string
	Attack bool
	Source string
	Group  string // sources that share texts or wording are left out together
	Hard   bool   // harmless, and full of the words of attacks

	// Forms are the text said otherwise. They are learnt from, never measured on, and weigh as much as the text together with it.
	Forms []string
}

// Settings of training. They were chosen by the figures of sources that were left out.
type Settings struct {
	Sources  int     // groups in which a word must stand to be learnt
	Rows     int     // the same, in rows
	Lambda   float64 // penalty, a share of the number of rows
	Rare     float64 // share of harmless texts with a word piece at which its vector counts half
	Pieces   float64 // scale of the vectors
	Grams    float64 // scale of words and pairs
	Rounds   int     // of learning which windows of an attack are the attack
	Folds    int
	Most     int // rows of a source
	MostWins int // windows of a harmless row in training
}

// Default settings.
func Default() Settings {
	return Settings{Sources: 4, Rows: 8, Lambda: 0.002, Rare: 0.02, Pieces: 2, Grams: 1, Rounds: 2, Folds: 8, Most: 500, MostWins: 12}
}

// Trainer holds the texts' features.
type Trainer struct {
	set    Settings
	x      *classify.Extractor
	pieces []string
	vector map[uint64][]float32 // of a piece, weighted by how rare it is
	dims   int
	docs   []*doc
	spell  map[uint64]string
}

type doc struct {
	Row
	rules   float64
	windows []window
	weight  float64
	forms   [][]window
}

type window struct {
	grams []uint64
	dense []classify.Value
	mean  []float32 // of the vectors of its pieces
}

// New prepares texts. vectors belong to pieces, in order; pieces are as BERT's vocabularies spell them.
func New(set Settings, rows []Row, pieces []string, vectors [][]float32) (*Trainer, error) {
	x, err := classify.NewExtractor(pieces)
	if err != nil {
		return nil, err
	}
	rules, err := detect.Builtin()
	if err != nil {
		return nil, err
	}
	t := &Trainer{set: set, x: x, pieces: pieces, vector: map[uint64][]float32{}, dims: len(vectors[0]), spell: map[uint64]string{}}
	for i, p := range pieces {
		if h := classify.PieceHash(p); h != 0 && t.vector[h] == nil {
			t.vector[h] = slices.Clone(vectors[i])
		}
	}
	samples := make([][]classify.Sample, 0, len(rows))
	spell := func(h uint64, gram string) { t.spell[h] = gram }
	seen, harmless := map[uint64]int{}, 0
	for _, r := range Thin(rows, set.Most) {
		layers := canon.Layers(r.Text)
		s := x.Windows(layers[0].Plain, spell)
		samples = append(samples, s)
		t.docs = append(t.docs, &doc{Row: r, rules: classify.RulesEvidence(detect.Combine(rules.ScanLayers(layers, detect.User)))})
		if !r.Attack {
			harmless++
			once := map[uint64]bool{}
			for _, w := range s {
				for _, p := range w.Pieces {
					if !once[p] {
						once[p] = true
						seen[p]++
					}
				}
			}
		}
	}
	for h, v := range t.vector {
		share := float64(seen[h]) / float64(harmless)
		scale := float32(set.Pieces * set.Rare / (set.Rare + share))
		for i := range v {
			v[i] *= scale
		}
	}
	for i, d := range t.docs {
		for _, s := range samples[i] {
			d.windows = append(d.windows, window{s.Grams, s.Dense, t.mean(s.Pieces)})
		}
		for _, f := range d.Forms {
			var form []window
			for _, s := range x.Windows(canon.Plain(f).Plain, spell) {
				form = append(form, window{s.Grams, s.Dense, t.mean(s.Pieces)})
			}
			d.forms = append(d.forms, form)
		}
	}
	for i, w := range weigh(len(t.docs), func(i int) Row { return t.docs[i].Row }) {
		t.docs[i].weight = w
	}
	return t, nil
}

func (t *Trainer) mean(pieces []uint64) []float32 {
	out := make([]float32, t.dims)
	for _, p := range pieces {
		for i, x := range t.vector[p] {
			out[i] += x / float32(len(pieces))
		}
	}
	return out
}

// Thin takes at most n rows of each source, evenly.
func Thin(rows []Row, n int) (out []Row) {
	total, at := map[string]int{}, map[string]int{}
	for _, r := range rows {
		total[r.Source]++
	}
	for _, r := range rows {
		k, all := at[r.Source], total[r.Source]
		at[r.Source]++
		if all <= n || k*n/all != (k+1)*n/all {
			out = append(out, r)
		}
	}
	return out
}

// weigh gives attacks and harmless texts equal say, and within each class a source the root of its size: big ones do not
// drown small ones.
func weigh(rows int, row func(i int) Row) []float64 {
	type key struct {
		source string
		attack bool
	}
	n := map[key]float64{}
	for i := range rows {
		r := row(i)
		n[key{r.Source, r.Attack}]++
	}
	sum := map[bool]float64{}
	for _, k := range slices.SortedFunc(maps.Keys(n), func(a, b key) int { return cmp.Compare(a.source, b.source) }) {
		sum[k.attack] += math.Sqrt(n[k])
	}
	out := make([]float64, rows)
	for i := range out {
		r := row(i)
		out[i] = float64(rows) / 2 / sum[r.Attack] / math.Sqrt(n[key{r.Source, r.Attack}])
	}
	return out
}

// fitted is a model while training.
type fitted struct {
	lexicon map[uint64]int32
	order   []uint64
	sparse  int
	dense   int // features that are no grams
	w       []float64
}

func (t *Trainer) denseSize() int { return len(t.x.DenseNames()) }

// fit trains on the documents that use says.
func (t *Trainer) fit(use func(*doc) bool) *fitted {
	f := &fitted{lexicon: map[uint64]int32{}, dense: t.denseSize()}
	type count struct {
		groups map[string]bool
		rows   int
	}
	counts := map[uint64]*count{}
	var docs []*doc
	rows := 0.0
	for _, d := range t.docs {
		if !use(d) {
			continue
		}
		docs = append(docs, d)
		rows++
		once := map[uint64]bool{}
		for _, w := range d.windows {
			for _, g := range w.grams {
				if once[g] {
					continue
				}
				once[g] = true
				c := counts[g]
				if c == nil {
					c = &count{groups: map[string]bool{}}
					counts[g] = c
				}
				c.rows++
				if len(c.groups) < t.set.Sources {
					c.groups[d.Group] = true
				}
			}
		}
	}
	for g, c := range counts {
		if len(c.groups) >= t.set.Sources && c.rows >= t.set.Rows {
			f.order = append(f.order, g)
		}
	}
	slices.Sort(f.order)
	for i, g := range f.order {
		f.lexicon[g] = int32(f.dense + i) //nolint:gosec // some ten thousand
	}
	f.sparse = f.dense + len(f.order)
	for round := range t.set.Rounds {
		f.w = logistic(t.examples(f, docs, round), f.sparse, t.dims, t.set.Lambda*rows, 60)
	}
	return f
}

// examples are windows. Of an attack, at first all have a say; later the third that the model before found highest.
func (t *Trainer) examples(f *fitted, docs []*doc, round int) (out []example) {
	for _, d := range docs {
		out = t.picked(out, f, d, d.windows, round)
		for _, form := range d.forms {
			out = t.picked(out, f, d, form, round)
		}
	}
	return out
}

// picked adds the windows of a text, or of one of its forms, that are learnt from.
func (t *Trainer) picked(out []example, f *fitted, d *doc, picked []window, round int) []example {
	switch {
	case round > 0 && d.Attack && len(picked) > 1:
		picked = slices.Clone(picked)
		slices.SortStableFunc(picked, func(a, b window) int { return cmp.Compare(t.score(f, b), t.score(f, a)) })
		picked = picked[:(len(picked)+2)/3]
	case round > 0 && len(picked) > 1: // what is highest of a harmless text is what it is judged by
		picked = slices.Clone(picked)
		slices.SortStableFunc(picked, func(a, b window) int { return cmp.Compare(t.score(f, b), t.score(f, a)) })
		picked = picked[:min(len(picked), t.set.MostWins/3)]
	case len(picked) > t.set.MostWins:
		step := len(picked) / t.set.MostWins
		var some []window
		for i := 0; i < len(picked); i += step {
			some = append(some, picked[i])
		}
		picked = some
	}
	for _, w := range picked {
		e := t.example(f, w)
		e.attack, e.weight = d.Attack, d.weight/float64(len(picked)*(1+len(d.forms)))
		out = append(out, e)
	}
	return out
}

func (t *Trainer) example(f *fitted, w window) example {
	e := example{dense: w.mean}
	for _, v := range w.dense {
		e.ids, e.values = append(e.ids, int32(v.ID)), append(e.values, v.Value) //nolint:gosec // some thousand
	}
	for _, g := range w.grams {
		if id, ok := f.lexicon[g]; ok {
			e.ids, e.values = append(e.ids, id), append(e.values, float32(t.set.Grams))
		}
	}
	return e
}

func (t *Trainer) score(f *fitted, w window) float64 {
	e := t.example(f, w)
	return e.score(f.w, f.sparse)
}

// top is the score of the highest window.
func (t *Trainer) top(f *fitted, d *doc) float64 {
	best := math.Inf(-1)
	for _, w := range d.windows {
		best = math.Max(best, t.score(f, w))
	}
	return best
}

// Out is what is known of a text by a model that did not see its group.
type Out struct {
	Row
	classify.Evidence
	Weight float64
}

// LeaveOut trains once for each fold, without the groups that are in it, and scores these.
func (t *Trainer) LeaveOut(say func(fold int, groups []string)) []Out {
	folds := t.folds()
	out := make([]Out, len(t.docs))
	for k := range t.set.Folds {
		f := t.fit(func(d *doc) bool { return folds[d.Group] != k })
		for i, d := range t.docs {
			if folds[d.Group] == k {
				best := t.top(f, d)
				out[i] = Out{d.Row, classify.Evidence{Rules: d.rules, Compact: best, Windows: math.Log(float64(len(d.windows)))}, d.weight}
			}
		}
		var groups []string
		for _, g := range slices.Sorted(maps.Keys(folds)) {
			if folds[g] == k {
				groups = append(groups, g)
			}
		}
		say(k, groups)
	}
	return out
}

// folds deals groups out: those with attacks first, so that each fold leaves out attacks and harmless texts.
func (t *Trainer) folds() map[string]int {
	attacks := map[string]bool{}
	for _, d := range t.docs {
		attacks[d.Group] = attacks[d.Group] || d.Attack
	}
	out := map[string]int{}
	n := 0
	for _, want := range []bool{true, false} {
		for _, g := range slices.Sorted(maps.Keys(attacks)) {
			if attacks[g] == want {
				out[g] = n % t.set.Folds
				n++
			}
		}
	}
	return out
}

// Model trains on everything. Top lists the words that weigh most, as they are spelt.
func (t *Trainer) Model() (w *classify.Weights, top []string) {
	f := t.fit(func(*doc) bool { return true })
	w = &classify.Weights{Bias: float32(f.w[len(f.w)-1])}
	for i := range f.dense {
		w.Dense = append(w.Dense, float32(f.w[i]))
	}
	for i, g := range f.order {
		if x := float32(f.w[f.dense+i] * t.set.Grams); math.Abs(float64(x)) > 1e-4 {
			w.Grams = append(w.Grams, classify.Weight{Hash: g, Weight: x})
		}
	}
	for _, h := range slices.Sorted(maps.Keys(t.vector)) {
		z := 0.0
		for k, x := range t.vector[h] {
			z += float64(x) * f.w[f.sparse+k]
		}
		w.Pieces = append(w.Pieces, classify.Weight{Hash: h, Weight: float32(z)})
	}
	w.About.Features, w.About.Concepts = t.x.Features(), t.x.Concepts()
	order := slices.SortedFunc(slices.Values(w.Grams), func(a, b classify.Weight) int { return cmp.Compare(b.Weight, a.Weight) })
	for _, g := range order[:min(40, len(order))] {
		top = append(top, fmt.Sprintf("%s %+.2f", t.spell[g.Hash], g.Weight))
	}
	return w, top
}
