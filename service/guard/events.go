package guard

import "aran/service/guard/taint"

// Event types: one for each decision that is not "allow".
const (
	TypeBlocked  = "aran.guard.blocked.v1"
	TypeRedacted = "aran.guard.redacted.v1"
	TypeFlagged  = "aran.guard.flagged.v1"
)

// Events of what people change.
const (
	TypePolicyChanged    = "aran.guard.policy_changed.v1"
	TypeAllowAdded       = "aran.guard.allow_added.v1"
	TypeAllowRemoved     = "aran.guard.allow_removed.v1"
	TypeFeedbackGiven    = "aran.guard.feedback_given.v1"
	TypeFeedbackReviewed = "aran.guard.feedback_reviewed.v1"
	TypeFeedbackExported = "aran.guard.feedback_exported.v1"
	TypeFeedbackErased   = "aran.guard.feedback_erased.v1"
)

// DecisionEvent is the data of the three decisions. It says what was found, never the text itself.
type DecisionEvent struct {
	RequestID  string   `json:"request_id,omitempty"`
	Origin     string   `json:"origin"`
	Kinds      []string `json:"kinds"`
	Rules      []string `json:"rules"`
	Score      float64  `json:"score"`
	TextDigest string   `json:"text_digest"`      // SHA-256, hex
	Policy     string   `json:"policy,omitempty"` // with its version: support@7
}

// PolicyEvent is the data of a change of a policy.
type PolicyEvent struct {
	Policy  string `json:"policy"`
	Version int64  `json:"version"` // 0: the tenant's own is out of use
	Digest  string `json:"digest"`  // SHA-256 of the document, hex; empty for version 0
	Change  string `json:"change"`  // stored, activated, trial_started, trial_ended
}

// AllowEvent is the data of a change of an allow-list.
type AllowEvent struct {
	Entry       string `json:"entry"`
	Policy      string `json:"policy,omitempty"` // empty: of the tenant
	Kind        string `json:"kind"`
	ValueDigest string `json:"value_digest"` // SHA-256, hex
	ExpiresAt   int64  `json:"expires_at"`   // microseconds since 1970
}

// FeedbackEvent is the data of a report and its review.
type FeedbackEvent struct {
	Feedback   string `json:"feedback"`
	Kind       string `json:"kind"` // false_positive or false_negative
	TextDigest string `json:"text_digest,omitempty"`
	Status     string `json:"status"` // open, accepted or rejected
}

// ExportEvent is the data of an export of accepted reports.
type ExportEvent struct {
	Reports int    `json:"reports"`
	Digest  string `json:"digest"` // SHA-256 of what was handed out, hex
}

// ErasedEvent is the data of an erasure.
type ErasedEvent struct {
	Reports int64 `json:"reports"`
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
