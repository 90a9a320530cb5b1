package outgoing

import (
	"regexp"
	"strings"

	"aran/service/guard/detect"
)

// codeContext is how far back a statement may begin, in bytes.
const codeContext = 256

// command is a rule about program text. near must stand in the text in lower case for the pattern to be tried at all.
type command struct {
	kind, rule string
	near       []string
	re         *regexp.Regexp
	why        string
}

const (
	kindShell = "code.shell"
	kindSQL   = "sql"
)

var commands = []command{ //nolint:gochecknoglobals // a constant table
	{kindShell, "shell.delete", []string{"rm "}, regexp.MustCompile(`(?i)\brm\s+(?:-{1,2}[a-z-]+\s+)*-(?:[a-z]*r[a-z]*f|[a-z]*f[a-z]*r)[a-z]*\s+\S+|\brm\s+(?:-r\s+-f|-f\s+-r|--recursive\s+--force|--force\s+--recursive)\s+\S+`), "A shell command (sh) that deletes folders without asking."},
	{kindShell, "shell.pipe", []string{"curl ", "wget ", "fetch ", "base64 -"}, regexp.MustCompile(`(?i)\b(?:curl|wget|fetch)\b[^\n|;&]{1,200}\|\s*(?:sudo\s+(?:-\S+\s+)?)?(?:env\s+)?(?:ba|z|da|k|c|fi)?sh\b|\b(?:curl|wget)\b[^\n|;&]{1,200}\|\s*(?:sudo\s+)?(?:python[0-9.]*|perl|ruby|node|php)\b|\bbase64\s+(?:-d|-D|--decode)\b[^\n|;&]{0,100}\|\s*(?:sudo\s+)?(?:ba|z|da)?sh\b|\b(?:ba|z|da)?sh\s+(?:-c\s+)?["']?(?:<\(|\$\()\s*(?:curl|wget)\b`), "A shell command (sh) that runs what it downloads or decodes."},
	{kindShell, "shell.disk", []string{"dd ", "mkfs", "/dev/", "fdisk", "shred ", "wipefs"}, regexp.MustCompile(`(?i)\bdd\s+[^\n;|]{0,100}\bof=/dev/(?:sd|hd|nvme|vd|disk|mmcblk)|\bmkfs(?:\.[a-z0-9]+)?\s+(?:-\S+\s+){0,6}/dev/|>\s*/dev/(?:sd|hd|nvme|vd|disk|mmcblk)|\b(?:shred|wipefs)\s[^\n;|]{0,60}/dev/`), "A shell command (sh) that overwrites a disk."},
	{kindShell, "shell.fork", []string{"|:", "| :"}, regexp.MustCompile(`:\s*\(\s*\)\s*\{\s*:\s*\|\s*:\s*&\s*\}\s*;\s*:`), "A shell command (sh) that starts programs without end."},
	{kindShell, "shell.reverse", []string{"/dev/tcp", "nc ", "ncat ", "netcat ", "socat "}, regexp.MustCompile(`(?i)/dev/(?:tcp|udp)/[^\s/]+/\d+|\b(?:nc|ncat|netcat)\s[^\n;|]{0,80}-[a-z]*[ec]\s*/?\S*(?:sh|cmd)|\bsocat\s[^\n]{0,100}exec:`), "A shell command (sh) that hands this machine to another one."},
	{kindShell, "shell.rights", []string{"chmod", "chown"}, regexp.MustCompile(`(?i)\bch(?:mod|own)\s+(?:-[a-z]*R[a-z]*|--recursive)\s+\S+\s+/(?:\s|$|etc|usr|var|bin|home)`), "A shell command (sh) that changes the rights of all files."},
	{kindShell, "shell.history", []string{"history -c", ".bash_history", "authorized_keys", "/etc/passwd", "/etc/shadow", "/etc/sudoers"}, regexp.MustCompile(`(?i)\bhistory\s+-c\b|>\s*\S*\.bash_history|>>?\s*\S*(?:authorized_keys|/etc/(?:passwd|shadow|sudoers))`), "A shell command (sh) that hides tracks or changes who may enter."},
	{kindShell, "shell.windows", []string{"del ", "format ", "rd ", "rmdir ", "vssadmin", "remove-item", "bcdedit"}, regexp.MustCompile(`(?i)\bdel\s+(?:/[a-z]\s+)*/[sq]\s+(?:/[a-z]\s+)*\S+|\bformat\s+[a-z]:|\b(?:rd|rmdir)\s+/s\s|\bvssadmin\s+delete\b|\bremove-item\b[^\n|;]{0,100}-recurse\b[^\n|;]{0,60}-force\b|\bremove-item\b[^\n|;]{0,100}-force\b[^\n|;]{0,60}-recurse\b`), "A shell command (cmd or PowerShell) that deletes without asking."},
	{kindShell, "shell.powershell", []string{"iex", "invoke-expression", "-enc", "downloadstring"}, regexp.MustCompile(`(?i)\b(?:iex|invoke-expression)\b[^\n]{0,80}\b(?:iwr|irm|invoke-webrequest|invoke-restmethod|downloadstring|net\.webclient)\b|\b(?:iwr|irm|invoke-webrequest|invoke-restmethod)\b[^\n]{1,200}\|\s*(?:iex|invoke-expression)\b|\bpowershell(?:\.exe)?\s[^\n]{0,80}-e(?:nc|ncodedcommand)?\s+[A-Za-z0-9+/=]{20,}`), "A shell command (PowerShell) that runs what it downloads or decodes."},

	{kindSQL, "sql.drop", []string{"drop ", "truncate "}, regexp.MustCompile(`(?i)\bdrop\s+(?:table|database|schema|view|index|user|role|tablespace)\s+(?:if\s+exists\s+)?["'\x60\[]?[a-z_][\w.$"'\x60\]-]*|\btruncate\s+table\s+["'\x60\[]?[a-z_][\w.]*`), "An SQL statement that deletes a table or more."},
	{kindSQL, "sql.union", []string{"union "}, regexp.MustCompile(`(?i)['")\d]\s*\bunion\s+(?:all\s+)?select\b|\bunion\s+(?:all\s+)?select\s+(?:null|\d+|@@|version\(|user\(|database\(|load_file)`), "SQL that joins another query to one that is there (injection)."},
	{kindSQL, "sql.always", []string{" or ", "'or'", "'or "}, regexp.MustCompile(`(?i)['"]\s*or\s+(?:['"]?\d+['"]?\s*=\s*['"]?\d+|['"]([a-z]?)['"]\s*=\s*['"]|true\b)\s*(?:['"]|--|#|;|/\*|$)?`), "SQL whose condition is always true (injection)."},
	{kindSQL, "sql.stacked", []string{"';", "\";", "xp_cmdshell", "into outfile", "into dumpfile", "grant all", "copy ", "waitfor delay", "sleep("}, regexp.MustCompile(`(?i)['"] ?; ?(?:drop|delete|insert|update|alter|exec|shutdown)\b|\bxp_cmdshell\b|\binto\s+(?:outfile|dumpfile)\s+['"]|\bgrant\s+all\b[^\n;]{0,100}\bto\b|\bcopy\s+\S+\s+(?:to|from)\s+program\b|\bwaitfor\s+delay\s+'`), "SQL that runs a second statement, a program, or writes files."},
}

// unbounded finds statements that need a condition; whether they have one is known at their end.
var unbounded = regexp.MustCompile("(?is)\\b(?:delete\\s+from\\s+[\"'\x60\\[]?[a-z_][\\w.\"'\x60\\]]*|update\\s+[\"'\x60\\[]?[a-z_][\\w.\"'\x60\\]]*\\s+set\\s[^;]{1,200}?)\\s*(?:;|\\n\\s*\\n|\x60\x60\x60|$)")

var conditioned = regexp.MustCompile(`(?i)\b(?:where|using|join|limit|returning)\b`)

// Code finds commands and SQL that destroy or break in, and names the language. Only what ends behind from is reported; final
// says that the text ends here.
func Code(s string, from int, final bool) []detect.Finding {
	start := max(0, from-codeContext)
	text := s[start:]
	lower := strings.ToLower(text)
	var out []detect.Finding
	add := func(kind, rule, why string, m []int) {
		if at, end := start+m[0], start+m[1]; end > from {
			out = append(out, detect.Finding{Kind: kind, Rule: rule, Score: 0.8, Start: max(at, from), End: end, Why: why})
		}
	}
	for _, c := range commands {
		if !containsAny(lower, c.near) {
			continue
		}
		for _, m := range c.re.FindAllStringIndex(text, -1) {
			add(c.kind, c.rule, c.why, m)
		}
	}
	if containsAny(lower, []string{"delete", "update"}) {
		for _, m := range unbounded.FindAllStringIndex(text, -1) {
			if ended := final || m[1] < len(text) || strings.HasSuffix(text, ";") || strings.HasSuffix(text, "```"); ended && !conditioned.MatchString(text[m[0]:m[1]]) {
				add(kindSQL, "sql.unbounded", "An SQL statement that deletes or changes every row: it has no WHERE.", m)
			}
		}
	}
	return out
}

func containsAny(s string, list []string) bool {
	for _, n := range list {
		if strings.Contains(s, n) {
			return true
		}
	}
	return false
}
