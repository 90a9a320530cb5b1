package guard

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
