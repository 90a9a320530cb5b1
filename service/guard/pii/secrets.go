package pii

import (
	"hash/crc32"
	"math"
	"regexp"
	"strings"

	"aran/platform/auth"
)

// keyFormat is a kind of key that its issuer made recognisable. check, if any, tells certain ones from look-alikes.
type keyFormat struct {
	rule   string
	near   string // must stand in the text; where it stands a match begins
	re     *regexp.Regexp
	check  func(s string) bool
	strict bool // what fails the check is no key; else it is less certain
}

func format(rule, near, re string) keyFormat {
	return keyFormat{rule: rule, near: near, re: regexp.MustCompile(`^(?:` + re + `)`)}
}

func checked(f keyFormat, check func(s string) bool, strict bool) keyFormat {
	f.check, f.strict = check, strict
	return f
}

var keyFormats = []keyFormat{ //nolint:gochecknoglobals // a constant table
	checked(format("key.aran", "aran_live_", `aran_live_[A-Za-z0-9]{38}`), auth.CheckAPIKey, true),
	checked(format("key.aran", "aran_test_", `aran_test_[A-Za-z0-9]{38}`), auth.CheckAPIKey, true),
	format("key.aran_refresh", "aran_refresh_", `aran_refresh_[A-Za-z0-9_-]{43}`),
	format("key.anthropic", "sk-ant-", `sk-ant-[A-Za-z0-9_-]{24,}`),
	checked(format("key.openai", "sk-", `sk-(?:proj-|svcacct-|admin-|or-v1-)?[A-Za-z0-9_-]{32,}`), mixed, true),
	format("key.aws", "AKIA", `AKIA[A-Z2-7][A-Z0-9]{15}`),
	format("key.aws", "ASIA", `ASIA[A-Z2-7][A-Z0-9]{15}`),
	checked(format("key.github", "ghp_", `ghp_[A-Za-z0-9]{36}`), crcTail, false),
	checked(format("key.github", "gho_", `gho_[A-Za-z0-9]{36}`), crcTail, false),
	checked(format("key.github", "ghu_", `ghu_[A-Za-z0-9]{36}`), crcTail, false),
	checked(format("key.github", "ghs_", `ghs_[A-Za-z0-9]{36}`), crcTail, false),
	checked(format("key.github", "ghr_", `ghr_[A-Za-z0-9]{36}`), crcTail, false),
	format("key.github", "github_pat_", `github_pat_[A-Za-z0-9_]{60,}`),
	checked(format("key.npm", "npm_", `npm_[A-Za-z0-9]{36}`), crcTail, false),
	format("key.google", "AIza", `AIza[A-Za-z0-9_-]{35}`),
	format("key.google_oauth", "ya29.", `ya29\.[A-Za-z0-9_-]{30,}`),
	format("key.google_oauth", "GOCSPX-", `GOCSPX-[A-Za-z0-9_-]{28}`),
	format("key.slack", "xox", `xox[abeoprs]-[A-Za-z0-9-]{20,}`),
	format("key.slack", "xapp-", `xapp-\d-[A-Z0-9]+-\d+-[a-f0-9]{30,}`),
	format("key.slack_hook", "hooks.slack.com/services/", `hooks\.slack\.com/services/T[A-Z0-9]{7,12}/B[A-Z0-9]{7,12}/[A-Za-z0-9]{20,}`),
	format("key.stripe", "k_live_", `k_live_[A-Za-z0-9]{20,}`),
	format("key.stripe", "k_test_", `k_test_[A-Za-z0-9]{20,}`),
	format("key.stripe_hook", "whsec_", `whsec_[A-Za-z0-9+/=]{24,}`),
	format("key.huggingface", "hf_", `hf_[A-Za-z0-9]{34,}`),
	format("key.gitlab", "gl", `gl(?:pat|dt|ptt|rt|cbt|ft|soat|agent)-[A-Za-z0-9_.-]{20,}`),
	format("key.sendgrid", "SG.", `SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}`),
	format("key.pypi", "pypi-AgE", `pypi-AgE[A-Za-z0-9_-]{50,}`),
	format("key.docker", "dckr_pat_", `dckr_pat_[A-Za-z0-9_-]{27}`),
	format("key.digitalocean", "do", `do[opr]_v1_[a-f0-9]{64}`),
	format("key.shopify", "shp", `shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}`),
	format("key.groq", "gsk_", `gsk_[A-Za-z0-9]{48,}`),
	format("key.xai", "xai-", `xai-[A-Za-z0-9]{70,}`),
	format("key.age", "AGE-SECRET-KEY-1", `AGE-SECRET-KEY-1[A-Z0-9]{58}`),
	format("key.azure", "AccountKey=", `AccountKey=[A-Za-z0-9+/]{86}==`),
	format("key.razorpay", "rzp_", `rzp_(?:live|test)_[A-Za-z0-9]{14}`),
	format("key.databricks", "dapi", `dapi[a-f0-9]{32}`),
	format("jwt", "eyJ", `eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}`),
	format("private_key", "-----BEGIN ", `-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\s:,.-]*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z)`),
}

// longestKey bounds where the end of a key is looked for.
const longestKey = 16 << 10

// keys finds secrets of known formats.
func (x *scanner) keys() {
	for i := range keyFormats {
		f := &keyFormats[i]
		for from := 0; ; {
			at := strings.Index(x.s[from:], f.near)
			if at < 0 {
				break
			}
			at += from
			from = at + len(f.near)
			if f.rule == "key.stripe" {
				if at == 0 || x.s[at-1] != 's' && x.s[at-1] != 'r' && x.s[at-1] != 'p' {
					continue
				}
				if x.s[at-1] == 'p' {
					continue // it is made to be published
				}
			} else if at > 0 && f.rule != "private_key" && f.rule != "key.slack_hook" && wordByte(x.s[at-1]) {
				continue
			}
			m := f.re.FindStringIndex(x.s[at:min(len(x.s), at+longestKey)])
			if m == nil {
				continue
			}
			start, end := at, at+m[1]
			if f.rule == "key.stripe" {
				start--
			}
			score := 0.97
			if f.check != nil && !f.check(x.s[start:end]) {
				if f.strict {
					continue
				}
				score = 0.8
			}
			x.add("secret", f.rule, score, start, end)
			from = end
		}
	}
	x.telegram()
	x.twilio()
}

// telegram: a bot's number, a colon, and 35 characters.
func (x *scanner) telegram() {
	for from := 0; ; {
		at := strings.Index(x.s[from:], ":AA")
		if at < 0 {
			return
		}
		at += from
		from = at + 3
		start := at
		for start > 0 && at-start < 11 && x.s[start-1] >= '0' && x.s[start-1] <= '9' {
			start--
		}
		end := at + 1
		for end < len(x.s) && end-at < 40 && (wordByte(x.s[end]) || x.s[end] == '-') {
			end++
		}
		if n := at - start; n >= 8 && n <= 10 && end-at == 36 {
			x.add("secret", "key.telegram", 0.95, start, end)
		}
	}
}

// twilio: SK or AC, then 32 hex digits; an account's id (AC) is no secret by itself.
func (x *scanner) twilio() {
	for i, t := range x.tokens {
		if t.end-t.start == 34 && strings.HasPrefix(x.text(t), "SK") && strings.Trim(x.text(t)[2:], "0123456789abcdef") == "" {
			x.add("secret", "key.twilio", 0.9, int(t.start), int(t.end))
		}
		_ = i
	}
}

// mixed tells keys from words in a row: sk-learn-tutorial-… has no digits or no capitals.
func mixed(s string) bool {
	digits, caps := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'A' && c <= 'Z':
			caps++
		}
	}
	return digits >= 3 && (caps >= 3 || entropy(s) > 3.6)
}

// crcTail checks the last six characters of GitHub's and npm's tokens: the CRC-32 of the thirty before, to base 62.
func crcTail(s string) bool {
	body := s[strings.IndexByte(s, '_')+1:]
	if len(body) != 36 {
		return false
	}
	const symbols = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum, want := crc32.ChecksumIEEE([]byte(body[:30])), [6]byte{}
	for i := 5; i >= 0; i-- {
		want[i] = symbols[sum%62]
		sum /= 62
	}
	return body[30:] == string(want[:])
}

// entropy of a text's characters, in bits for each.
func entropy(s string) float64 {
	var n [256]int
	for i := range len(s) {
		n[s[i]]++
	}
	sum := 0.0
	for _, k := range n {
		if k > 0 {
			p := float64(k) / float64(len(s))
			sum -= p * math.Log2(p)
		}
	}
	return sum
}

// assignments finds what is called a password, a key or a token, and looks like one.
func (x *scanner) assignments() {
	for i, t := range x.tokens {
		if t.letters < 3 || t.wide {
			continue
		}
		word := x.text(t)
		strong, weak := secretName(word)
		if !strong && !weak {
			continue
		}
		start, marked := x.valueAfter(int(t.end))
		if start < 0 {
			continue
		}
		if strings.EqualFold(word, "bearer") {
			marked = true
		}
		end := start
		quote := byte(0)
		if start > 0 && strings.IndexByte("\"'`", x.s[start-1]) >= 0 {
			quote = x.s[start-1]
		}
		for end < len(x.s) && end-start < 512 && x.s[end] > ' ' && x.s[end] != quote && strings.IndexByte("\"'`<>,;|)}]", x.s[end]) < 0 {
			end++
		}
		end = start + len(strings.TrimRight(x.s[start:end], ".!?:"))
		v := x.s[start:end]
		if placeholder(v) || !marked {
			continue
		}
		score := 0.0
		switch e := entropy(v); {
		case strong && len(v) >= 4 && varied(v):
			score = 0.8
		case strong && quote != 0 && len(v) >= 4:
			score = 0.6
		case strong && len(v) >= 6 && x.s[start-1] == '=':
			score = 0.6
		case len(v) >= 16 && e > 3 && varied(v) && !isUUID(v):
			score = 0.75
		}
		_ = i
		x.add("secret", "secret.assigned", score, start, end)
	}
}

// secretName reports whether a word names a password (strong: its value is one, whatever it looks like), or a key.
func secretName(word string) (strong, weak bool) {
	w := strings.ToLower(word)
	switch w {
	case "password", "passwd", "pwd", "passphrase", "passwort", "kennwort", "contraseña", "pass", "dbpassword", "userpassword", "passcode":
		return true, true
	case "secret", "token", "key", "apikey", "bearer", "accesskey", "secretkey", "accesstoken", "authtoken", "privatekey", "clientsecret", "credential":
		return false, true
	}
	return strings.HasSuffix(w, "password") || strings.HasSuffix(w, "passwd"), strings.HasSuffix(w, "secret") || strings.HasSuffix(w, "apikey") || strings.HasSuffix(w, "token")
}

// valueAfter is where the value of a name begins, or -1: after ":", "=", "=>", "is" or, for "Bearer", a space.
func (x *scanner) valueAfter(at int) (start int, marked bool) {
	i := at
	for i < len(x.s) && strings.IndexByte("\"'`_* ", x.s[i]) >= 0 && i-at < 4 {
		i++
	}
	switch rest := x.s[i:]; {
	case strings.HasPrefix(rest, ":="), strings.HasPrefix(rest, "=>"), strings.HasPrefix(rest, "=="):
		i, marked = i+2, true
	case strings.HasPrefix(rest, ":"), strings.HasPrefix(rest, "="):
		i, marked = i+1, true
	case strings.HasPrefix(rest, "is ") && i > at, strings.HasPrefix(rest, "is:"):
		i, marked = i+3, true
	case i == at:
		return -1, false
	}
	for n := 0; i < len(x.s) && strings.IndexByte("\"'`* ", x.s[i]) >= 0 && n < 4; n++ {
		i++
	}
	if i >= len(x.s) || x.s[i] <= ' ' {
		return -1, false
	}
	return i, marked
}

// placeholder reports whether a value only stands for one.
func placeholder(v string) bool {
	if v == "" || strings.IndexByte("<${%[*", v[0]) >= 0 || strings.Trim(v, v[:1]) == "" {
		return true
	}
	switch strings.ToLower(strings.Trim(v, "_-")) {
	case "xxx", "password", "secret", "token", "null", "none", "true", "false", "changeme", "example", "your", "required", "optional", "string", "redacted", "removed", "hidden", "env", "nil", "undefined", "empty", "missing", "invalid", "incorrect", "wrong", "expired", "file", "pass":
		return true
	}
	low := strings.ToLower(v)
	for _, p := range []string{"your", "my_", "xxxx", "env:", "file:", "os.", "process.env", "getenv", "secret-", "example"} {
		if strings.HasPrefix(low, p) {
			return true
		}
	}
	return false
}

// varied reports whether a value has characters of two sorts: words do not.
func varied(v string) bool {
	lower, upper, digit, mark := 0, 0, 0, 0
	for i := range len(v) {
		switch c := v[i]; {
		case c >= 'a' && c <= 'z':
			lower = 1
		case c >= 'A' && c <= 'Z':
			if i > 0 {
				upper = 1
			}
		case c >= '0' && c <= '9':
			digit = 1
		default:
			mark = 1
		}
	}
	return digit+lower+upper+mark >= 2 && (digit == 1 || mark == 1 && lower+upper > 0 && len(v) >= 8 && strings.IndexByte(v, '(') < 0)
}

func isUUID(s string) bool {
	return len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-'
}

// randoms finds long random strings that words near them call secret. Hashes, ids and pictures are random as well: without such a
// word they are nothing.
func (x *scanner) randoms() {
	for i := 0; i < len(x.s); {
		if !wordByte(x.s[i]) {
			i++
			continue
		}
		j := i
		for j < len(x.s) && (wordByte(x.s[j]) || strings.IndexByte("+/=-", x.s[j]) >= 0) {
			j++
		}
		v := strings.TrimRight(x.s[i:j], "-/")
		if n := len(v); n >= 24 && n <= 200 && varied(v) && !isUUID(v) && !hexOnly(v) && strings.Count(v, "/") < 4 && strings.Count(v, "-") < 6 && entropy(v) > 4.2 && mixed(v) && !strings.Contains(strings.ToLower(v), "abcdefgh") && !strings.HasPrefix(v, "aran_") && !x.inURL(i) {
			if c := x.contextAt(i, i+n); c&cSecret != 0 {
				x.add("secret", "secret.entropy", 0.75, i, i+n)
			}
		}
		i = j
	}
}

func hexOnly(s string) bool { return strings.Trim(s, "0123456789abcdefABCDEF") == "" }

// inURL reports whether a place belongs to a link or to data in one.
func (x *scanner) inURL(at int) bool {
	from := at
	for from > 0 && at-from < 200 && x.s[from-1] > ' ' {
		from--
	}
	return strings.Contains(x.s[from:at], "://") || strings.Contains(x.s[from:at], "base64,")
}
