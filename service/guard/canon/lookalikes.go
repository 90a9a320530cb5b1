package canon

import (
	_ "embed"
	"strings"
	"unicode/utf8"
)

//go:embed lookalikes.txt
var lookAlikesFile string

// moreLookAlikes are those that TR 39 compares with a letter that is no plain Latin one, small capitals and turned letters.
const moreLookAlikes = `
a ᴀ ɐ ɒ æ ά
b ʙ в β ƀ
c ɔ ƈ ς ¢
d ᴅ đ ɖ ɗ ð
e ᴇ є ɛ ə ǝ ε э ɘ ξ
f ꜰ ƒ ғ ɟ
g ɢ ǥ ɠ ԍ ğ
h ʜ ħ н ɥ ɦ ђ
i ɨ ᵻ ℩
j ᴊ ɉ ɾ
k ᴋ к κ ƙ ĸ қ
l ʟ ł ɫ ɭ ʅ
m ᴍ м ɱ
n ɴ η и п ŋ ƞ ɲ ñ
o ø ɵ ө ð ω
p ᴘ þ ƥ
q ʠ φ
r ʀ ɹ я ɼ ɽ ř
s ʂ ȿ
t ᴛ т τ ŧ ʇ ƭ ț
u μ ц ʉ џ
v ʌ ʋ
w ш щ ʍ ω ẃ
x ж
y ʎ ў ч ÿ
z ʐ ƶ ζ
`

const loose byte = 0x80

//nolint:gochecknoglobals // constant tables
var (
	// lookAlikes says which Latin letter or digit a letter of another script looks like.
	// With the bit loose it does so only from afar.
	lookAlikes = func() map[rune]byte {
		m := map[rune]byte{}
		for n, file := range []string{moreLookAlikes, lookAlikesFile} { // the standard has the last word
			far := loose
			if n > 0 {
				far = 0
			}
			for line := range strings.Lines(file) {
				f := strings.Fields(line)
				if len(f) < 2 || f[0] == "#" {
					continue
				}
				for _, like := range f[1:] {
					if r := []rune(like); len(r) == 1 {
						m[r[0]] = f[0][0] | far
					}
				}
			}
		}
		return m
	}()
	// signs are characters that always stand for an ASCII one.
	signs = func() map[rune]byte {
		m := map[rune]byte{
			'’': '\'', '‘': '\'', '‛': '\'', 'ʼ': '\'', '´': '\'', '＇': '\'', '“': '"', '”': '"', '„': '"', '«': '"', '»': '"',
			'–': '-', '—': '-', '‐': '-', '‑': '-', '‒': '-', '−': '-', '⁄': '/', '∕': '/', '∗': '*', '‹': '<', '›': '>', '❘': '|',
		}
		for i, r := range []rune("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡxʏᴢ") { // small capitals
			if r >= utf8.RuneSelf {
				m[r] = byte('a' + i)
			}
		}
		for i := range rune(26) {
			c := byte('a' + i)
			m[0x1F1E6+i] = c // regional indicators
			m[0x1F150+i] = c // negative circled
			m[0x1F170+i] = c // negative squared
			m[0x1F130+i] = c // squared
		}
		return m
	}()
)
