package canon

import (
	"encoding/ascii85"
	"encoding/base32"
	"encoding/base64"
	"strings"
)

const (
	shortestCode = 12 // characters of base64 and the like
	fewestCodes  = 8  // numbers, or signs of Morse, in a row
	shortestA85  = 15 // of Ascii85 without a frame
	shortestLine = 4  // characters of base64 before a line break or space
)

// packed finds runs in base64, base32, hexadecimal digits and Ascii85.
func packed(s string, longest int) (out []code) {
	tried := 0  // up to here pieces were read as one
	frame := -1 // where the next frame of Ascii85 ends
	for i := 0; i < len(s); {
		if s[i] <= ' ' {
			i++
			continue
		}
		if strings.HasPrefix(s[i:], "<~") {
			if frame < i+2 {
				if frame = strings.Index(s[i+2:], "~>"); frame >= 0 {
					frame += i + 2
				} else {
					frame = len(s)
				}
			}
			if frame < len(s) {
				if c, ok := fromAscii85(s, i+2, frame); ok {
					out = append(out, c)
				}
				i = frame + 2
				continue
			}
		}
		if !base64Char(s[i]) {
			i++
			continue
		}
		word := wordOf(s, i)
		end := word
		if i >= tried && strange(s[i:word]) {
			end = runOf(s, i)
			tried = end
		}
		c, ok := code{}, false
		if end-i >= shortestCode {
			c, ok = unpack(s, i, end)
		}
		if !ok && end > word && word-i >= shortestCode {
			end = word
			c, ok = unpack(s, i, end)
		}
		if ok {
			out = append(out, c)
			i = end
		} else {
			i = word
		}
	}
	for i := 0; i < len(s) && longest >= shortestA85; { // Ascii85 without a frame: whole words of it
		for i < len(s) && s[i] <= ' ' {
			i++
		}
		end := i
		signs := 0
		for end < len(s) && s[end] > ' ' && s[end] <= 'u' {
			if kind[s[end]]&(isAlpha|isDigit) == 0 {
				signs++
			}
			end++
		}
		if n := end - i; n >= shortestA85 && n <= decodeBytes && signs*12 >= n && (end == len(s) || s[end] <= ' ') {
			if c, ok := fromAscii85(s, i, end); ok && english(c.text) {
				out = append(out, c)
			}
		}
		for end < len(s) && s[end] > ' ' {
			end++
		}
		i = end
	}
	return out
}

// strange says whether capitals or digits stand inside of a word.
func strange(w string) bool {
	for i := 1; i < min(len(w), longestWord); i++ {
		if 'A' <= w[i] && w[i] <= 'Z' || kind[w[i]] == isDigit {
			return true
		}
	}
	return false
}

func base64Char(c byte) bool {
	return kind[c]&(isAlpha|isDigit) != 0 || c == '+' || c == '/' || c == '-' || c == '_' || c == '='
}

// runOf is where a run of base64 ends. It goes over line breaks and spaces where what stands before and after is wrapped: pieces
// of the same length, the last one shorter.
func runOf(s string, start int) int {
	end := wordOf(s, start)
	width := end - start
	if width < shortestLine || width%4 != 0 {
		return end
	}
	for end < len(s) {
		next := end
		for next < len(s) && (s[next] == '\r' || s[next] == '\n' || s[next] == ' ' || s[next] == '\t' || s[next] == '>') && next-end < 8 {
			next++
		}
		if next == end || next == len(s) {
			break
		}
		to := wordOf(s, next)
		if n := to - next; n == 0 || n > width {
			break
		}
		if to-next < width {
			if width >= 16 || (to-next)%4 == 0 {
				end = to
			}
			break
		}
		end = to
	}
	return end
}

func wordOf(s string, i int) int {
	for i < len(s) && base64Char(s[i]) {
		i++
	}
	return i
}

// unpack reads a run as what it is, if what comes out is a text.
func unpack(s string, start, end int) (code, bool) {
	digits := make([]byte, 0, end-start)
	at := make([]int32, 0, end-start+1)
	var seen struct{ lower, upper, digit, sign, beyondHex, beyond32 bool }
	for i := start; i < end; i++ {
		c := s[i]
		if c <= ' ' || c == '>' || c == '=' {
			continue
		}
		switch {
		case 'a' <= c && c <= 'z':
			seen.lower = true
			seen.beyondHex = seen.beyondHex || c > 'f'
		case 'A' <= c && c <= 'Z':
			seen.upper = true
			seen.beyondHex = seen.beyondHex || c > 'F'
		case '0' <= c && c <= '9':
			seen.digit = true
			seen.beyond32 = seen.beyond32 || c < '2' || c > '7'
		default:
			seen.sign = true
			switch c {
			case '-':
				c = '+'
			case '_':
				c = '/'
			}
		}
		digits = append(digits, c)
		at = append(at, int32(i)) //nolint:gosec // texts are at most some megabytes
	}
	at = append(at, int32(end)) //nolint:gosec // texts are at most some megabytes
	if !seen.beyondHex && !seen.sign && len(digits)%2 == 0 {
		if b, ok := hexBytes(digits); ok && readable(b) {
			return code{string(b), "hex", spread(at, 2, 1, len(b))}, true
		}
	}
	if !seen.lower && !seen.sign && !seen.beyond32 {
		b := make([]byte, len(digits))
		n, err := base32.StdEncoding.WithPadding(base32.NoPadding).Decode(b, digits)
		if err == nil && readable(b[:n]) {
			return code{string(b[:n]), "base32", spread(at, 8, 5, n)}, true
		}
	}
	if !seen.digit && !seen.sign && (!seen.upper || !seen.lower) {
		return code{}, false // a word
	}
	b := make([]byte, len(digits))
	for cut := range 4 { // letters that only stand before it by chance
		if cut >= len(digits) || cut > 0 && !seen.sign {
			break
		}
		part := digits[cut:]
		if len(part)%4 == 1 {
			part = part[:len(part)-1]
		}
		n, err := base64.RawStdEncoding.Decode(b, part)
		if err == nil && readable(b[:n]) && (n >= 12 || english(string(b[:n]))) {
			return code{string(b[:n]), "base64", spread(at[cut:], 4, 3, n)}, true
		}
	}
	return code{}, false
}

func hexBytes(digits []byte) ([]byte, bool) {
	out := make([]byte, len(digits)/2)
	for i := range out {
		h, ok := hexDigit(digits[2*i])
		l, fine := hexDigit(digits[2*i+1])
		if !ok || !fine {
			return nil, false
		}
		out[i] = h<<4 | l
	}
	return out, true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return (c | 0x20) - 'a' + 10, true
	}
	return 0, false
}

// spread leads each of n bytes that came from groups of digits (in digits become out bytes) back to its digit.
func spread(at []int32, in, out, n int) []int32 {
	to := make([]int32, n+1)
	for i := range n {
		to[i] = at[min(i*in/out, len(at)-1)]
	}
	to[n] = at[len(at)-1]
	return to
}

func fromAscii85(s string, start, end int) (code, bool) {
	b := make([]byte, 4*(end-start)+4)
	n, _, err := ascii85.Decode(b, []byte(s[start:end]), true)
	if err != nil || n < 8 || !readable(b[:n]) {
		return code{}, false
	}
	at := make([]int32, end-start+1)
	for i := range at {
		at[i] = int32(start + i) //nolint:gosec // texts are at most some megabytes
	}
	return code{string(b[:n]), "ascii85", spread(at, 5, 4, n)}, true
}
