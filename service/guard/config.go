package guard

import (
	"fmt"
	"io/fs"
	"os"
	"time"

	"aran/service/guard/judge"
	"aran/service/guard/outgoing"
	"aran/service/guard/policy"
)

// What policy does about a finding, and what becomes of a text.
const (
	Allow  = policy.Allow
	Flag   = policy.Flag
	Redact = policy.Redact
	Block  = policy.Block
)

// Config is what the operator says of all tenants.
type Config struct {
	Policy policy.Policy `yaml:"policy"` // what holds where a tenant's own policy says nothing
	Floor  policy.Policy `yaml:"floor"`  // what no tenant's policy and no allow-list may loosen; what it leaves out is free

	Rules string `yaml:"rules" doc:"folder with *.yaml files of rules of your own, used besides the built-in ones for all tenants; read at start"`

	HistoryDays    int     `yaml:"history_days" doc:"days for which verdicts are kept (kinds, rules, scores and digests, never text), to try a policy on; 0 keeps none"`
	HistoryRows    int     `yaml:"history_rows" doc:"verdicts kept of a tenant at most; the oldest go first"`
	HistoryScore   float64 `yaml:"history_score" doc:"score from which a text that was allowed is kept too, 0 to 1"`
	FeedbackOpen   int     `yaml:"feedback_open" doc:"reports of wrong verdicts of a tenant that may wait for review"`
	FeedbackPerDay int     `yaml:"feedback_per_day" doc:"reports of wrong verdicts that one reporter may make in a day"`

	ConversationTTL time.Duration `yaml:"conversation_ttl" doc:"how long it is known what a conversation has read, since it was last used"`
	PseudonymTTL    time.Duration `yaml:"pseudonym_ttl" doc:"how long a conversation's pseudonyms can be restored after it was last anonymised"`

	LeakWords int     `yaml:"leak_words" doc:"words of the instructions that an answer may repeat in one run; from then on it gives them away"`
	LeakShare float64 `yaml:"leak_share" doc:"share of the words of the instructions from which on an answer gives them away, 0 to 1"`

	Judge judge.Config `yaml:"judge"`

	// Settings of earlier versions. Check says where each has moved.
	UserThreshold     float64  `yaml:"user_threshold" doc:"moved to guard.policy.thresholds.user.block"`
	DocumentThreshold float64  `yaml:"document_threshold" doc:"moved to guard.policy.thresholds.document.block and tool.block"`
	FlagThreshold     float64  `yaml:"flag_threshold" doc:"moved to guard.policy.thresholds.user.flag, document.flag and tool.flag"`
	OutputSecrets     string   `yaml:"output_secrets" doc:"moved to guard.policy.output.secret"`
	OutputNumbers     string   `yaml:"output_numbers" doc:"moved to guard.policy.output.pii"`
	OutputContacts    string   `yaml:"output_contacts" doc:"moved to guard.policy.output.contact"`
	OutputLinks       string   `yaml:"output_links" doc:"moved to guard.policy.output.links"`
	InputSecrets      string   `yaml:"input_secrets" doc:"moved to guard.policy.input.secret"`
	InputNumbers      string   `yaml:"input_numbers" doc:"moved to guard.policy.input.pii"`
	InputContacts     string   `yaml:"input_contacts" doc:"moved to guard.policy.input.contact"`
	AllowHosts        []string `yaml:"allow_hosts" doc:"moved to guard.policy.allow_hosts"`
}

// rules are those of the operator's own; nil is none.
func (c Config) rules() fs.FS {
	if c.Rules == "" {
		return nil
	}
	return os.DirFS(c.Rules)
}

// Default blocks instructions, redacts secrets and numbers on the way out, and flags them on the way in. No tenant may let the
// marks of its instructions, or keys and other secrets, out.
func Default() Config {
	return Config{
		Policy:      policy.Default(),
		Floor:       policy.Policy{Output: policy.Actions{Canary: Block, Secret: Redact}},
		HistoryDays: 30, HistoryRows: 50_000, HistoryScore: 0.1, FeedbackOpen: 1000, FeedbackPerDay: 50,
		PseudonymTTL:    30 * 24 * time.Hour,
		ConversationTTL: 30 * 24 * time.Hour,
		LeakWords:       24, LeakShare: 0.6, Judge: judge.Default(),
	}
}

// Check names the first setting that can't be used.
func (c Config) Check() error {
	if err := c.checkMoved(); err != nil {
		return err
	}
	for _, p := range []struct {
		name string
		policy.Policy
	}{{"policy", c.Policy}, {"floor", c.Floor}} {
		if err := p.Check(); err != nil {
			return fmt.Errorf("guard.%s.%w", p.name, err)
		}
		if err := outgoing.CheckSchemas(p.Policy); err != nil {
			return fmt.Errorf("guard.%s.%w", p.name, err)
		}
	}
	if err := c.Judge.Check(); err != nil {
		return fmt.Errorf("guard.%w", err)
	}
	if info, err := os.Stat(c.Rules); c.Rules != "" && (err != nil || !info.IsDir()) {
		return fmt.Errorf("guard.rules %q: there is no such folder", c.Rules)
	}
	switch {
	case c.LeakWords < 8 || c.LeakWords > 10_000:
		return fmt.Errorf("guard.leak_words %d: use 8 to 10000", c.LeakWords)
	case !(c.LeakShare > 0 && c.LeakShare <= 1):
		return fmt.Errorf("guard.leak_share %v: use more than 0, at most 1", c.LeakShare)
	case c.HistoryDays < 0 || c.HistoryDays > 3650:
		return fmt.Errorf("guard.history_days %d: use 0 to 3650", c.HistoryDays)
	case c.HistoryRows < 100 || c.HistoryRows > 10_000_000:
		return fmt.Errorf("guard.history_rows %d: use 100 to 10000000", c.HistoryRows)
	case !(c.HistoryScore >= 0 && c.HistoryScore <= 1):
		return fmt.Errorf("guard.history_score %v: use 0 to 1", c.HistoryScore)
	case c.ConversationTTL < time.Hour || c.ConversationTTL > maxConversationTTL:
		return fmt.Errorf("guard.conversation_ttl %v: use an hour to %v", c.ConversationTTL, maxConversationTTL)
	case c.PseudonymTTL < time.Minute || c.PseudonymTTL > maxPseudonymTTL:
		return fmt.Errorf("guard.pseudonym_ttl %v: use a minute to %v", c.PseudonymTTL, maxPseudonymTTL)
	case c.FeedbackOpen < 1 || c.FeedbackOpen > 100_000:
		return fmt.Errorf("guard.feedback_open %d: use 1 to 100000", c.FeedbackOpen)
	case c.FeedbackPerDay < 1 || c.FeedbackPerDay > 10_000:
		return fmt.Errorf("guard.feedback_per_day %d: use 1 to 10000", c.FeedbackPerDay)
	}
	return nil
}

func (c Config) checkMoved() error {
	for _, m := range []struct {
		key, to string
		set     bool
	}{
		{"user_threshold", "thresholds.user.block", c.UserThreshold != 0},
		{"document_threshold", "thresholds.document.block and guard.policy.thresholds.tool.block", c.DocumentThreshold != 0},
		{"flag_threshold", "thresholds.user.flag, guard.policy.thresholds.document.flag and guard.policy.thresholds.tool.flag", c.FlagThreshold != 0},
		{"output_secrets", "output.secret", c.OutputSecrets != ""},
		{"output_numbers", "output.pii", c.OutputNumbers != ""},
		{"output_contacts", "output.contact", c.OutputContacts != ""},
		{"output_links", "output.links", c.OutputLinks != ""},
		{"input_secrets", "input.secret", c.InputSecrets != ""},
		{"input_numbers", "input.pii", c.InputNumbers != ""},
		{"input_contacts", "input.contact", c.InputContacts != ""},
		{"allow_hosts", "allow_hosts", len(c.AllowHosts) > 0},
	} {
		if m.set {
			return fmt.Errorf("guard.%s has moved: write guard.policy.%s", m.key, m.to)
		}
	}
	return nil
}

const (
	maxPseudonymTTL    = 10 * 365 * 24 * time.Hour
	maxConversationTTL = 10 * 365 * 24 * time.Hour
)
