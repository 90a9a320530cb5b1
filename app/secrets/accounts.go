package secrets

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"aran/platform/bus"
)

const scramRounds = 4096 // PostgreSQL's own; the passwords have 256 random bits

// role writes the line of a service's role: its name, and what PostgreSQL keeps of its password (SCRAM-SHA-256, RFC 5803).
func role(b *bytes.Buffer, service, password string) error {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramRounds, sha256.Size)
	if err != nil {
		return fmt.Errorf("hash the password of %s: %w", service, err)
	}
	sign := func(text string) []byte {
		m := hmac.New(sha256.New, salted)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	text := base64.StdEncoding.EncodeToString
	_, err = fmt.Fprintf(b, "aran_%s SCRAM-SHA-256$%d:%s$%s:%s\n", service, scramRounds, text(salt), text(stored[:]), text(sign("Server Key")))
	return err
}

// begin, user and end write the users of a NATS server, in its configuration's language.
func begin(b *bytes.Buffer) { b.WriteString("authorization {\n  timeout: 5\n  users = [\n") }

func end(b *bytes.Buffer) { b.WriteString("  ]\n}\n") }

func user(b *bytes.Buffer, p Party, password string) error {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost) // nobody guesses 256 random bits, however fast
	if err != nil {
		return fmt.Errorf("hash the password of %s: %w", p.Name, err)
	}
	r := bus.RightsOf(p.Name, p.Foreign, p.Roles...)
	_, err = fmt.Fprintf(b, "    {user: %q, password: %q, permissions: {\n      publish: {allow: %s, deny: %s}\n      subscribe: {allow: %s}\n    }}\n",
		p.Name, hash, list(r.Publish), list(r.Deny), list(r.Subscribe))
	return err
}

func list(subjects []string) string {
	quoted := make([]string, len(subjects))
	for i, s := range subjects {
		quoted[i] = fmt.Sprintf("%q", s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// redisCommands are all that caches and limits send.
const redisCommands = "+auth +hello +ping +select +get +set +pexpire +unlink +time +eval +evalsha +script|load"

// acl writes the line of a service's user: its own keys alone. Who shows no password may ask whether Redis lives.
func acl(b *bytes.Buffer, service, password string) {
	if b.Len() == 0 {
		b.WriteString("user default on nopass resetkeys resetchannels -@all +ping\n")
	}
	sum := sha256.Sum256([]byte(password))
	fmt.Fprintf(b, "user %s on #%s resetkeys ~aran:%s:* resetchannels -@all %s\n", service, hex.EncodeToString(sum[:]), service, redisCommands)
}

// redisLogin reads the password out of the URL in a file, or makes both.
func redisLogin(path, service string, renew bool) (string, error) { //nolint:revive // whether what is there counts
	if b, err := os.ReadFile(path); err == nil && !renew { //nolint:gosec // the operator's own path
		if u, err := url.Parse(strings.TrimSpace(string(b))); err == nil && u.User != nil {
			if w, set := u.User.Password(); set {
				return w, nil
			}
		}
	}
	w := random()
	u := url.URL{Scheme: "rediss", User: url.UserPassword(service, w), Host: Redis + ":6379", Path: "/0"}
	return w, write(path, []byte(u.String()), private)
}
