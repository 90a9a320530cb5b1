package guard

import "aran/service/guard/taint"

// Event types: one for each decision that is not "allow".
const (
	TypeBlocked  = "aran.guard.blocked.v1"
	TypeRedacted = "aran.guard.redacted.v1"
	TypeFlagged  = "aran.guard.flagged.v1"
)

// DecisionEvent is the data of all three. It says what was found, never the text itself.
type DecisionEvent struct {
	RequestID  string   `json:"request_id,omitempty"`
	Origin     string   `json:"origin"`
	Kinds      []string `json:"kinds"`
	Rules      []string `json:"rules"`
	Score      float64  `json:"score"`
	TextDigest string   `json:"text_digest"` // SHA-256, hex
}

// TypeToolRefused says that a model wanted to use a tool and may not, or not without a person.
const TypeToolRefused = "aran.guard.tool_refused.v1"

// ToolEvent is the data of tool_refused. It names where the conversation's texts came from, never what they say.
type ToolEvent struct {
	RequestID       string         `json:"request_id,omitempty"`
	Conversation    string         `json:"conversation"` // SHA-256, hex
	Tool            string         `json:"tool,omitempty"`
	Outcome         string         `json:"outcome"` // ask or deny
	Level           string         `json:"level"`
	Kinds           []string       `json:"kinds"`
	Rules           []string       `json:"rules"`
	Sources         []taint.Source `json:"sources"`
	ArgumentsDigest string         `json:"arguments_digest"` // SHA-256, hex
	Policy          string         `json:"policy"`
}
