package canon

import "strings"

// whole undoes what programs and printers do to a text: strings in quotes with a plus between them or a name given to each
// ("ig" + "nore", a = "ig" b = "nore"), words that end on a hyphen before a space, and lines that have underlines for spaces.
func whole(t Text) Text {
	s := t.Plain
	var edits []edit
	if n := strings.Count(s, `" + "`) + strings.Count(s, `' + '`); n > 0 || strings.Contains(s, " + ") && strings.Contains(s, ` = "`) {
		edits = quotes(s)
	}
	if len(edits) == 0 && strings.Contains(s, "- ") {
		edits = hyphens(s)
	}
	if len(edits) == 0 && strings.Contains(s, "_") {
		edits = underlines(s)
	}
	return t.edited(edits)
}

const longestName = 12 // letters of a variable

// quotes finds what stands between two strings.
func quotes(s string) (edits []edit) {
	for i := 0; i < len(s); i++ {
		if s[i] != '"' && s[i] != '\'' {
			continue
		}
		j := i + 1
		if j >= len(s) || s[j] != ' ' {
			continue
		}
		j++
		if strings.HasPrefix(s[j:], "+ ") {
			j += 2
		} else {
			name := j
			for j < len(s) && j-name < longestName && (kind[s[j]]&(isAlpha|isDigit) != 0 || s[j] == '_') {
				j++
			}
			if j == name || !strings.HasPrefix(s[j:], " = ") {
				continue
			}
			j += 3
		}
		if j < len(s) && s[j] == s[i] {
			edits = append(edits, edit{start: i, end: j + 1})
			i = j
		}
	}
	return edits
}

// hyphens finds hyphens at the end of a line in a word that attacks are made of.
func hyphens(s string) (edits []edit) {
	lex := lexicon()
	for i := 1; i < len(s)-2; i++ {
		if s[i] != '-' || s[i+1] != ' ' {
			continue
		}
		from, to := i, i+2
		for from > 0 && i-from < longestWord && kind[s[from-1]]&isAlpha != 0 {
			from--
		}
		for to < len(s) && to-i < longestWord && kind[s[to]]&isAlpha != 0 {
			to++
		}
		if from < i && to > i+2 && lex.words.has(hashOf(s[from:i]+s[i+2:to])) {
			edits = append(edits, edit{start: i, end: i + 2})
		}
	}
	return edits
}

const fewestUnderlines = 4

// underlines finds those that stand for spaces: several between two spaces, with a word that attacks are made of.
func underlines(s string) (edits []edit) {
	lex := lexicon()
	for start := 0; start < len(s); {
		end := len(s)
		if i := strings.IndexByte(s[start:], ' '); i >= 0 {
			end = start + i
		}
		if token := s[start:end]; strings.Count(token, "_") >= fewestUnderlines && !strings.Contains(token, "://") {
			from := len(edits)
			trigger := false
			for at, word := start, ""; at <= end; at += len(word) + 1 {
				word, _, _ = strings.Cut(s[at:end], "_")
				id, ok := lex.words.get(hashOf(strings.Trim(word, `.,:;!?"'()`)))
				trigger = trigger || ok && lex.trigger(id)
				if at > start {
					edits = append(edits, edit{at - 1, at, " "})
				}
			}
			if !trigger {
				edits = edits[:from]
			}
		}
		start = end + 1
	}
	return edits
}
