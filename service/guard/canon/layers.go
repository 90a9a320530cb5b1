package canon

// Layer is one reading of a text: the text itself, or something that it hides in a code.
type Layer struct {
	Text              // the plain form; its positions are those of the text that was given to Layers
	Raw        string // what the plain form was made of: the text as given, or as decoded
	How        string // how it was hidden, outermost code first: "base64+rot13"; empty for the text itself
	Start, End int    // where it stands in the text that was given
}

// Layers gives every reading of a text: first the text itself in its plain form, then what it hides, in order of where it
// stands. It is made once and shared by everything that judges the text:
//
//	for _, l := range canon.Layers(s) {
//		score(l.Plain)                  // what a model or a rule looks at
//		start, end := l.Span(from, to)  // a stretch of l.Plain, as bytes of s
//	}
//
// It takes linear time, and all layers together are no longer than a constant times the text.
func Layers(s string) []Layer {
	out := []Layer{{Text: Plain(s), Raw: s, End: len(s)}}
	for _, h := range Decode(s) {
		t := Plain(h.Text)
		last := int32(h.Start) //nolint:gosec // texts are at most some megabytes
		for i, p := range t.At {
			if at := h.at[p]; at >= last {
				last = at
			} else if at < last && i > 0 { // read backwards: all of it is one stretch
				t.At = stretch(h, len(t.At))
				break
			}
			t.At[i] = last
		}
		out = append(out, Layer{t, h.Text, h.How, h.Start, h.End})
	}
	return out
}

// stretch leads every stretch to all of where a text was hidden.
func stretch(h Hidden, n int) []int32 {
	at := make([]int32, n)
	for i := range at {
		at[i] = int32(h.Start) //nolint:gosec // texts are at most some megabytes
	}
	at[n-1] = int32(h.End) //nolint:gosec // texts are at most some megabytes
	return at
}
