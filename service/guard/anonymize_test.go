package guard_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	pb "aran/api/gen/aran/guard/v1"
	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc/rpctest"
	"aran/platform/store"
	"aran/platform/watch"
	"aran/service/guard"
	"aran/service/guard/policy"
)

const private = "Write to asha.rao@example.org or +91 98765 43210, card 4111 1111 1111 1111."

// replica is another process on the same database and keys.
func (w *world) replica(t testing.TB) *guard.Service {
	t.Helper()
	s, err := guard.New(guard.Default(), guard.Deps{DB: w.db, Box: w.box, Server: w.a.Server("guard", "chat", "search"), Log: slog.New(slog.DiscardHandler), Health: &watch.Health{}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func anonymize(ctx context.Context, t testing.TB, s *guard.Service, conversation string) string {
	t.Helper()
	got, err := s.Anonymize(ctx, conversation, []string{private})
	if err != nil {
		t.Fatal(err)
	}
	return got[0].Text
}

func restore(ctx context.Context, t testing.TB, s *guard.Service, conversation, text string) string {
	t.Helper()
	got, hold, err := s.Restore(ctx, conversation, text, true)
	if err != nil || hold != "" {
		t.Fatal(hold, err)
	}
	return got
}

func TestAnonymizeAndRestoreOverBothWays(t *testing.T) {
	w := openHiding(t)
	c := w.client("chat")
	r, err := c.Anonymize(t.Context(), &pb.AnonymizeRequest{Texts: []string{private, "again asha.rao@example.org"}, Conversation: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	out := r.GetResults()[0].GetText()
	if strings.Contains(out, "asha") || strings.Contains(out, "98765") || strings.Contains(out, "4111") || len(r.GetResults()[0].GetFindings()) != 3 {
		t.Errorf("results %v", r)
	}
	if again := strings.TrimPrefix(r.GetResults()[1].GetText(), "again "); !strings.Contains(out, again) {
		t.Errorf("the second text has another pseudonym: %s, %s", out, again)
	}
	back, err := c.Restore(t.Context(), &pb.RestoreRequest{Text: out, Conversation: "c1", Final: true})
	if err != nil || back.GetRelease() != private || back.GetHold() != "" {
		t.Errorf("restored %v, %v", back, err)
	}

	var one struct {
		Text, Conversation string
		Findings           []struct{ Kind string }
	}
	w.a.Gateway(w.s.Public(), "guard", &w.id, http.MethodPost, "/api/v1/guard/anonymize", map[string]string{"text": private}).JSON(t, &one)
	if one.Conversation == "" || strings.Contains(one.Text, "asha") || len(one.Findings) != 3 {
		t.Errorf("%+v", one)
	}
	var two struct{ Text, Hold string }
	w.a.Gateway(w.s.Public(), "guard", &w.id, http.MethodPost, "/api/v1/guard/restore", map[string]any{"text": one.Text, "conversation": one.Conversation}).JSON(t, &two)
	if two.Text != private || two.Hold != "" {
		t.Errorf("%+v", two)
	}
	at := strings.Index(one.Text, "@")
	w.a.Gateway(w.s.Public(), "guard", &w.id, http.MethodPost, "/api/v1/guard/restore", map[string]any{"text": one.Text[:at], "conversation": one.Conversation, "final": false}).JSON(t, &two)
	if two.Text != "Write to " || "Write to "+two.Hold != one.Text[:at] {
		t.Errorf("the half of a pseudonym is not held back: %+v of %q", two, one.Text[:at])
	}
	var many struct {
		Results []struct{ Text string }
	}
	w.a.Gateway(w.s.Public(), "guard", &w.id, http.MethodPost, "/api/v1/guard/anonymize", map[string]any{"texts": []string{"a@example.org", "nothing"}, "conversation": "c2"}).JSON(t, &many)
	if len(many.Results) != 2 || many.Results[0].Text == "a@example.org" || many.Results[1].Text != "nothing" {
		t.Errorf("%+v", many)
	}
}

func TestAnonymizeRefuses(t *testing.T) {
	w := open(t)
	for name, c := range map[string]struct {
		id     *auth.Identity
		path   string
		body   any
		status int
	}{
		"nobody":             {nil, "anonymize", map[string]string{"text": "x"}, http.StatusUnauthorized},
		"nobody restores":    {nil, "restore", map[string]string{"text": "x", "conversation": "c"}, http.StatusUnauthorized},
		"no scope":           {&auth.Identity{Tenant: "t1", Subject: "user:1"}, "restore", map[string]string{"text": "x", "conversation": "c"}, http.StatusForbidden},
		"both":               {&w.id, "anonymize", map[string]any{"text": "x", "texts": []string{"y"}}, http.StatusBadRequest},
		"too many":           {&w.id, "anonymize", map[string]any{"texts": make([]string, 300)}, http.StatusBadRequest},
		"no conversation":    {&w.id, "restore", map[string]string{"text": "x"}, http.StatusBadRequest},
		"a long name for it": {&w.id, "anonymize", map[string]string{"text": "x", "conversation": strings.Repeat("c", 101)}, http.StatusBadRequest},
	} {
		if got := w.a.Gateway(w.s.Public(), "guard", c.id, http.MethodPost, "/api/v1/guard/"+c.path, c.body); got.Status != c.status {
			t.Errorf("%s: %d %s", name, got.Status, got.Body)
		}
	}
	if _, err := w.client("gateway").Anonymize(t.Context(), &pb.AnonymizeRequest{Texts: []string{"x"}, Conversation: "c"}); fault.KindOf(err) != fault.Denied {
		t.Errorf("a caller that the table does not list: %v", err)
	}
}

// TestWhatIsAnonymizedCanBeRestored: a text that pseudonyms make longer than Restore takes is refused, and nothing is kept.
func TestWhatIsAnonymizedCanBeRestored(t *testing.T) {
	w := open(t)
	c := w.client("chat")
	post := func(path string, body any) rpctest.Answer {
		return w.a.Gateway(w.s.Public(), "guard", &w.id, http.MethodPost, "/api/v1/guard/"+path, body)
	}
	long := strings.Repeat("a@b.co ", 140_000)
	if got := post("anonymize", map[string]string{"text": long, "conversation": "c1"}); got.Status != http.StatusRequestEntityTooLarge || !strings.Contains(string(got.Body), "result_too_long") {
		t.Errorf("%d %.200s", got.Status, got.Body)
	}
	ctx := auth.With(t.Context(), w.id, "")
	if _, err := w.s.Anonymize(ctx, "c1", []string{"short", long}); fault.KindOf(err) != fault.TooLarge {
		t.Errorf("longer than can be restored: %v", err)
	}
	if m, err := w.s.Pseudonyms(ctx, "c1"); err != nil || m.Len() != 0 {
		t.Errorf("%d values of what was refused are kept, %v", m.Len(), err)
	}
	most := strings.Repeat("a@b.co ", 1_000_000/len("mail-xxxxx@redacted.example ")) // the longest that fits
	var one, two struct{ Text string }
	post("anonymize", map[string]string{"text": most, "conversation": "c1"}).JSON(t, &one)
	post("restore", map[string]string{"text": one.Text, "conversation": "c1"}).JSON(t, &two)
	if len(one.Text) < 999_900 || two.Text != most {
		t.Errorf("%d characters came back as %d of %d", len(one.Text), len(two.Text), len(most))
	}
	r, err := c.Anonymize(t.Context(), &pb.AnonymizeRequest{Texts: []string{most}, Conversation: "c2"})
	if err != nil {
		t.Fatal(err)
	}
	if back, err := c.Restore(t.Context(), &pb.RestoreRequest{Text: r.GetResults()[0].GetText(), Conversation: "c2", Final: true}); err != nil || back.GetRelease() != most {
		t.Errorf("by RPC: %d characters of %d, %v", len(back.GetRelease()), len(most), err)
	}
}

func TestAConversationBelongsToItsSubject(t *testing.T) {
	w := open(t)
	mine := auth.With(t.Context(), w.id, "")
	out := anonymize(mine, t, w.s, "c1")
	for name, id := range map[string]auth.Identity{
		"another subject": {Tenant: "t1", Subject: "user:2"},
		"another tenant":  {Tenant: "t2", Subject: "user:1"},
	} {
		theirs := auth.With(t.Context(), id, "")
		if got := restore(theirs, t, w.s, "c1", out); got != out {
			t.Errorf("%s restored %q", name, got)
		}
		if got := anonymize(theirs, t, w.s, "c1"); got == out {
			t.Errorf("%s has the same pseudonyms", name)
		}
	}
	if got := restore(mine, t, w.s, "c2", out); got != out {
		t.Errorf("another conversation restored %q", got)
	}
}

func TestPseudonymsAreSealedOnDisk(t *testing.T) {
	w := open(t)
	ctx := auth.With(t.Context(), w.id, "")
	anonymize(ctx, t, w.s, "our conversation")
	rows, err := w.db.Query(ctx, "SELECT sealed FROM guard_pseudonym")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; rows.Next(); n++ {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "asha") || strings.Contains(string(b), "4111") {
			t.Error("a value lies in the clear")
		}
	}
	if err := rows.Close(); err != nil || n != 3 {
		t.Errorf("%d pairs, %v", n, err)
	}
	files, err := filepath.Glob(filepath.Join(w.dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"asha", "98765", "our conversation", "user:1"} {
			if strings.Contains(string(b), s) {
				t.Errorf("%s holds %q", filepath.Base(f), s)
			}
		}
	}
}

func TestErasureLeavesPseudonymsInPlace(t *testing.T) {
	w := open(t)
	ctx := auth.With(t.Context(), w.id, "")
	out := anonymize(ctx, t, w.s, "c1")
	other := auth.With(t.Context(), auth.Identity{Tenant: "t1", Subject: "user:2"}, "")
	kept := anonymize(other, t, w.s, "c1")
	if got := restore(ctx, t, w.s, "c1", out); got != private {
		t.Fatalf("before: %q", got)
	}
	for range 2 {
		if err := w.s.Erase(ctx, w.id.Tenant, w.id.Subject); err != nil {
			t.Fatal(err)
		}
		if got := restore(ctx, t, w.s, "c1", out); got != out {
			t.Errorf("restored after erasure: %q", got)
		}
	}
	if _, err := w.s.Anonymize(ctx, "c1", []string{private}); fault.KindOf(err) != fault.Missing {
		t.Errorf("an erased subject has pseudonyms again: %v", err)
	}
	if got := restore(other, t, w.s, "c1", kept); got != private {
		t.Errorf("another subject lost theirs: %q", got)
	}
	var n int
	if err := w.db.QueryRow(ctx, "SELECT COUNT(*) FROM guard_pseudonym").Scan(&n); err != nil || n != 3 {
		t.Errorf("%d pairs are left, %v", n, err)
	}
}

func TestExpiredPseudonymsAreForgotten(t *testing.T) {
	w := open(t)
	ctx := auth.With(t.Context(), w.id, "")
	out := anonymize(ctx, t, w.s, "c1")
	if err := w.db.Tx(ctx, func(tx *store.Tx) error {
		return tx.ExecOne(ctx, "UPDATE guard_conversation SET expires_at = 1")
	}); err != nil {
		t.Fatal(err)
	}
	if got := restore(ctx, t, w.s, "c1", out); got != out {
		t.Errorf("restored after its time: %q", got)
	}
	again := anonymize(ctx, t, w.s, "c1")
	if again == out || restore(ctx, t, w.s, "c1", again) != private || restore(ctx, t, w.s, "c1", out) != out {
		t.Error("a conversation that begins anew has its former pseudonyms")
	}
	if err := w.db.Tx(ctx, func(tx *store.Tx) error {
		return tx.ExecOne(ctx, "UPDATE guard_conversation SET expires_at = 1")
	}); err != nil {
		t.Fatal(err)
	}
	if n, err := w.s.DropExpired(ctx); err != nil || n != 1 {
		t.Errorf("%d conversations dropped, %v", n, err)
	}
	var left int
	if err := w.db.QueryRow(ctx, "SELECT COUNT(*) FROM guard_pseudonym").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d pairs are left, %v", left, err)
	}
}

// TestReplicasAgree: the same value has one pseudonym although two replicas meet it at the same time.
func TestReplicasAgree(t *testing.T) {
	w := open(t)
	ctx := auth.With(t.Context(), w.id, "")
	replicas := []*guard.Service{w.s, w.replica(t), w.replica(t)}
	const rounds = 8
	got := make([][]string, len(replicas))
	var wg sync.WaitGroup
	for i, s := range replicas {
		wg.Go(func() {
			for n := range rounds {
				r, err := s.Anonymize(ctx, "shared", []string{fmt.Sprintf("to user%d@example.org", n)})
				if err != nil {
					t.Errorf("replica %d: %v", i, err)
					return
				}
				got[i] = append(got[i], r[0].Text)
			}
		})
	}
	wg.Wait()
	for i := range replicas {
		for n := range got[i] {
			if got[i][n] != got[0][n] {
				t.Errorf("value %d is %q in one replica and %q in another", n, got[0][n], got[i][n])
			}
			if back := restore(ctx, t, replicas[(i+1)%len(replicas)], "shared", got[i][n]); back != fmt.Sprintf("to user%d@example.org", n) {
				t.Errorf("another replica restored %q", back)
			}
		}
	}
}

func TestPseudonymsForAnAnswerInPieces(t *testing.T) {
	w := open(t)
	ctx := auth.With(t.Context(), w.id, "")
	out := anonymize(ctx, t, w.s, "c1")
	m, err := w.s.Pseudonyms(ctx, "c1")
	if err != nil || m.Len() != 3 || !m.Known("ASHA.RAO@example.org") || m.Known("somebody@example.org") {
		t.Fatalf("%d pairs, %v", m.Len(), err)
	}
	var all strings.Builder
	hold := ""
	for i := range len(out) {
		release, rest := m.Restore(hold+out[i:i+1], false)
		all.WriteString(release)
		hold = rest
	}
	release, _ := m.Restore(hold, true)
	if all.String()+release != private {
		t.Errorf("in pieces: %q", all.String()+release)
	}
}

// openHiding is a guard whose policy wants pseudonyms wherever text goes to a provider.
func openHiding(t testing.TB) *world {
	t.Helper()
	cfg := guard.Default()
	cfg.Policy.Anonymise = policy.Providers
	return openWith(t, cfg)
}

func TestPolicySaysWhetherProvidersSeePseudonyms(t *testing.T) {
	for name, c := range map[string]struct {
		w    *world
		hide bool
	}{"never": {open(t), false}, "providers": {openHiding(t), true}} {
		r, err := c.w.client("chat").Anonymize(t.Context(), &pb.AnonymizeRequest{Texts: []string{private}, Conversation: "c"})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.GetResults()[0]; (got.GetText() != private) != c.hide {
			t.Errorf("%s: %q", name, got.GetText())
		}
	}
}
