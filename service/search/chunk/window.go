package chunk

// Window is a part of a text that is looked at as one: a passage, what stands between it and the next, and a little before it.
// It is text[Start:End], in bytes; Passage is the passage's place in the list.
type Window struct{ Passage, Start, End int }

// Windows cover every byte of a text whose passages are given in order. One longer than most is cut. Each begins overlap bytes
// before what it adds, so that nothing is hidden by lying across a cut. most must be larger than overlap and 8 bytes together.
func Windows(text string, ps []Passage, most, overlap int) (out []Window) {
	boundary := func(at int) int {
		for at > 0 && at < len(text) && text[at]&0xC0 == 0x80 {
			at--
		}
		return max(at, 0)
	}
	for i := range max(1, len(ps)) {
		start, end := 0, len(text)
		if i > 0 {
			start = boundary(min(ps[i].Start, ps[i-1].End) - overlap)
		}
		if i+1 < len(ps) {
			end = max(ps[i].End, ps[i+1].Start)
		}
		for end-start > most {
			cut := boundary(start + most)
			out = append(out, Window{i, start, cut})
			start = boundary(cut - overlap)
		}
		out = append(out, Window{i, start, end})
	}
	return out
}
