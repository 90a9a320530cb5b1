package guard

import (
	"fmt"
	"slices"
	"time"
)

// What policy does about a finding.
const (
	Allow  = "allow"
	Flag   = "flag"
	Redact = "redact"
	Block  = "block"
)

// Config is the policy. Its values are one of allow, flag, redact and block.
type Config struct {
	UserThreshold     float64  `yaml:"user_threshold" doc:"score from which an instruction in a user's text is blocked, 0 to 1 (weights of rules, not calibrated)"`
	DocumentThreshold float64  `yaml:"document_threshold" doc:"score from which a document is quarantined, 0 to 1"`
	FlagThreshold     float64  `yaml:"flag_threshold" doc:"score from which something is flagged, 0 to 1"`
	OutputSecrets     string   `yaml:"output_secrets" doc:"keys and other secrets in an answer"`
	OutputNumbers     string   `yaml:"output_numbers" doc:"card, bank account and identity numbers in an answer"`
	OutputContacts    string   `yaml:"output_contacts" doc:"e-mail addresses and telephone numbers in an answer"`
	OutputLinks       string   `yaml:"output_links" doc:"images and links in an answer that could carry data away"`
	InputSecrets      string   `yaml:"input_secrets" doc:"keys and other secrets in a user's text"`
	InputNumbers      string   `yaml:"input_numbers" doc:"card, bank account and identity numbers in a user's text"`
	InputContacts     string   `yaml:"input_contacts" doc:"e-mail addresses and telephone numbers in a user's text"`
	AllowHosts        []string `yaml:"allow_hosts" doc:"hosts that images and links in answers may point to"`

	ConversationTTL time.Duration `yaml:"conversation_ttl" doc:"how long it is known what a conversation has read, since it was last used"`
	PseudonymTTL    time.Duration `yaml:"pseudonym_ttl" doc:"how long a conversation's pseudonyms can be restored after it was last anonymised"`
}

// Default blocks instructions, redacts secrets and numbers on the way out, and flags them on the way in.
func Default() Config {
	return Config{
		UserThreshold: 0.7, DocumentThreshold: 0.85, FlagThreshold: 0.4,
		OutputSecrets: Redact, OutputNumbers: Redact, OutputContacts: Allow, OutputLinks: Redact,
		InputSecrets: Redact, InputNumbers: Flag, InputContacts: Allow,
		ConversationTTL: 30 * 24 * time.Hour,
		PseudonymTTL:    30 * 24 * time.Hour,
	}
}

// Check names the first setting that can't be used.
func (c Config) Check() error {
	for name, v := range map[string]float64{"user_threshold": c.UserThreshold, "document_threshold": c.DocumentThreshold, "flag_threshold": c.FlagThreshold} {
		if v <= 0 || v > 1 {
			return fmt.Errorf("guard.%s %v: use more than 0, at most 1", name, v)
		}
	}
	for name, v := range map[string]string{
		"output_secrets": c.OutputSecrets, "output_numbers": c.OutputNumbers, "output_contacts": c.OutputContacts, "output_links": c.OutputLinks,
		"input_secrets": c.InputSecrets, "input_numbers": c.InputNumbers, "input_contacts": c.InputContacts,
	} {
		if !slices.Contains([]string{Allow, Flag, Redact, Block}, v) {
			return fmt.Errorf("guard.%s %q: use allow, flag, redact or block", name, v)
		}
	}
	if c.ConversationTTL < time.Hour || c.ConversationTTL > 10*365*24*time.Hour {
		return fmt.Errorf("guard.conversation_ttl %s: use 1h to 87600h", c.ConversationTTL)
	}
	if c.PseudonymTTL < time.Minute || c.PseudonymTTL > maxPseudonymTTL {
		return fmt.Errorf("guard.pseudonym_ttl %v: use a minute to %v", c.PseudonymTTL, maxPseudonymTTL)
	}
	return nil
}

const maxPseudonymTTL = 10 * 365 * 24 * time.Hour
