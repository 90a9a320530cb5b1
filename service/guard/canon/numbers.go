package canon

import "strings"

// number is one of a row: its digits, and where they stand.
type number struct {
	digits     string
	start, end int
}

// numbers finds rows of numbers that are letters: binary, octal, decimal and hexadecimal codes, and places in the alphabet.
func numbers(s string) (out []code) {
	var row []number
	flush := func() {
		if len(row) > 0 {
			if c, ok := lettersOf(row); ok {
				out = append(out, c)
			}
		}
		row = row[:0]
	}
	for i := 0; i < len(s); {
		if _, ok := hexDigit(s[i]); !ok || i > 0 && kind[s[i-1]]&isAlpha != 0 && s[i-1] != 'x' {
			i++
			continue
		}
		end := i
		plain := true
		for end < len(s) && kind[s[end]]&(isAlpha|isDigit) != 0 {
			if _, ok := hexDigit(s[end]); !ok {
				plain = false
				break
			}
			end++
		}
		if !plain && (s[end]|0x20) == 'x' && s[i:end] == "0" { // 0x69
			i = end + 1
			continue
		}
		if !plain {
			flush()
			for end < len(s) && kind[s[end]]&(isAlpha|isDigit) != 0 {
				end++
			}
			i = end
			continue
		}
		if n := len(row); n > 0 && !between(s[row[n-1].end:i]) {
			flush()
		}
		row = append(row, number{s[i:end], i, end})
		i = end
	}
	flush()
	return out
}

// between says whether what stands between two numbers only sets them apart.
func between(gap string) bool {
	return len(gap) <= 4 && strings.Trim(gap, " ,;:-|/\\x0\r\n\t.[]&#") == ""
}

// lettersOf reads a row of numbers.
func lettersOf(row []number) (code, bool) {
	binary, octal, decimal, hex, places := true, true, true, true, true
	total := 0
	for _, n := range row {
		d := n.digits
		total += len(d)
		v, dec := 0, true
		for i := range len(d) {
			c := d[i]
			binary = binary && (c == '0' || c == '1')
			octal = octal && c >= '0' && c <= '7'
			if c > '9' {
				dec = false
			} else if v < 10000 {
				v = v*10 + int(c-'0')
			}
		}
		binary = binary && (len(d)%8 == 0 || len(d) == 7)
		octal = octal && (len(d) == 3 || len(d) == 2)
		decimal = decimal && dec && (v >= 32 && v < 127 || v == 10 || v == 13)
		places = places && dec && v >= 1 && v <= 27
		hex = hex && len(d)%2 == 0
	}
	for _, try := range []struct {
		ok    bool
		least int // numbers
		how   string
		base  int
		width int // digits of one letter, where several may stand in one number
	}{{binary, 1, "binary", 2, 8}, {decimal, 6, "decimal", 10, 0}, {octal, 6, "octal", 8, 0}, {hex, 4, "hex", 16, 2}, {places, 6, "a1z26", 10, 0}} {
		if !try.ok || total < fewestCodes || len(row) < try.least || try.base == 2 && total < 28 {
			continue
		}
		c := code{how: try.how}
		var b []byte
		for _, n := range row {
			width := len(n.digits)
			if try.width > 0 && width%try.width == 0 {
				width = try.width
			}
			for k := 0; k < len(n.digits); k += width {
				v := 0
				for i := k; i < k+width; i++ {
					x, _ := hexDigit(n.digits[i])
					v = v*try.base + int(x)
				}
				if try.how == "a1z26" {
					v += 'a' - 1
				}
				b = append(b, byte(v))
				c.at = append(c.at, int32(n.start+k)) //nolint:gosec // texts are at most some megabytes
			}
		}
		c.at = append(c.at, int32(row[len(row)-1].end)) //nolint:gosec // texts are at most some megabytes
		c.text = string(b)
		switch try.how {
		case "a1z26":
			c.text = strings.ReplaceAll(c.text, "{", " ") // 27 is a space
			if !english(c.text) && (&repairer{lex: lexicon()}).segment(c.text) == nil {
				continue
			}
		case "decimal", "octal":
			if !english(c.text) && (try.base == 8 || len(b) < 16) {
				continue
			}
		}
		if readable(b) {
			return c, true
		}
	}
	return code{}, false
}

// Morse letters, by their signs read as a binary number that begins with 1: "." is 0, "-" is 1.
//
//nolint:gochecknoglobals // a constant table
var morseLetters = func() map[int]byte {
	m := map[int]byte{}
	for c, signs := range map[byte]string{
		'a': ".-", 'b': "-...", 'c': "-.-.", 'd': "-..", 'e': ".", 'f': "..-.", 'g': "--.", 'h': "....", 'i': "..", 'j': ".---", 'k': "-.-", 'l': ".-..", 'm': "--",
		'n': "-.", 'o': "---", 'p': ".--.", 'q': "--.-", 'r': ".-.", 's': "...", 't': "-", 'u': "..-", 'v': "...-", 'w': ".--", 'x': "-..-", 'y': "-.--", 'z': "--..",
		'0': "-----", '1': ".----", '2': "..---", '3': "...--", '4': "....-", '5': ".....", '6': "-....", '7': "--...", '8': "---..", '9': "----.",
		'.': ".-.-.-", ',': "--..--", '?': "..--..", '\'': ".----.", '!': "-.-.--", '/': "-..-.", ':': "---...", '=': "-...-", '-': "-....-", '"': ".-..-.", '@': ".--.-.", '_': "..--.-",
	} {
		v := 1
		for i := range len(signs) {
			v = v<<1 | int(signs[i]&1) // '-' is odd, '.' is even
		}
		m[v] = c
	}
	return m
}()

// morse finds stretches of Morse code. Letters stand apart by a space, words by more or by a stroke.
func morse(s string) (out []code) {
	var text []byte
	var at []int32
	v, n, start, bad, gap, letters := 1, 0, 0, false, 0, 0
	letter := func() {
		if n == 0 {
			return
		}
		if c, ok := morseLetters[v]; ok && !bad {
			if gap > 1 && len(text) > 0 {
				text, at = append(text, ' '), append(at, int32(start)) //nolint:gosec // texts are at most some megabytes
			}
			text, at = append(text, c), append(at, int32(start)) //nolint:gosec // texts are at most some megabytes
			if kind[c]&isAlpha != 0 {
				letters++
			}
		} else {
			bad = true
		}
		v, n, gap = 1, 0, 0
	}
	flush := func(end int) {
		letter()
		if letters >= 4 && (letters >= fewestCodes || english(string(text))) {
			out = append(out, code{string(text), "morse", append(at, int32(end))}) //nolint:gosec // texts are at most some megabytes
			at = nil
		}
		text, at, letters, bad, gap = text[:0], at[:0], 0, false, 0
	}
	for i, r := range s {
		sign := -1
		switch r {
		case '.', '·', '•', '∙', '●':
			sign = 0
		case '-', '–', '—', '−', '_', '▬':
			sign = 1
		case ' ', '\n', '\t', '\r':
			if n > 0 {
				letter()
			}
			gap++
			continue
		case '/', '|':
			letter()
			gap += 2
			continue
		}
		if sign < 0 || bad || n >= 7 {
			flush(i)
			v, n = 1, 0
			continue
		}
		if n == 0 {
			start = i
		}
		v, n = v<<1|sign, n+1
	}
	flush(len(s))
	return out
}
