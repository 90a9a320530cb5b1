package chat

// Event types. Data holds ids, names and digests, never content.
const (
	TypeAnswered = "aran.chat.answered.v1"
	TypeFellBack = "aran.chat.fell_back.v1"
	TypeBlocked  = "aran.chat.blocked.v1"
)

// AnsweredEvent is the data of answered: an answer was given, or given up (see Finish).
type AnsweredEvent struct {
	RequestID        string     `json:"request_id"`
	Model            string     `json:"model"`
	Provider         string     `json:"provider"`
	Rung             Rung       `json:"rung"`
	RequestedModel   string     `json:"requested_model"`
	Stream           bool       `json:"stream"`
	Collections      []string   `json:"collections,omitempty"`
	Citations        []CitedIDs `json:"citations,omitempty"`
	PromptTokens     int        `json:"prompt_tokens"`
	CompletionTokens int        `json:"completion_tokens"`
	QuestionDigest   string     `json:"question_digest"`
	AnswerDigest     string     `json:"answer_digest"` // SHA-256 in hex, of the text as it was shown
	Guard            Judged     `json:"guard"`
	Template         string     `json:"template,omitempty"`
	Finish           string     `json:"finish"` // stop, length, tool_calls, content_filter; canceled, error, lost: not whole
	LatencyMS        int64      `json:"latency_ms"`
}

// CitedIDs name a passage.
type CitedIDs struct {
	Document string `json:"document"`
	Chunk    string `json:"chunk"`
}

// Judged is the guard's verdict and the kinds of what it found.
type Judged struct {
	Verdict string   `json:"verdict"`
	Kinds   []string `json:"kinds,omitempty"`
}

// FellBackEvent is the data of fell_back: a step of the ladder did not answer.
type FellBackEvent struct {
	RequestID string `json:"request_id"`
	From      string `json:"from"` // rung:provider
	To        string `json:"to"`
	Reason    string `json:"reason"` // a fault's kind or code
}

// BlockedEvent is the data of blocked: policy refused a request, a document or an answer.
type BlockedEvent struct {
	RequestID      string   `json:"request_id"`
	RequestedModel string   `json:"requested_model"`
	Where          string   `json:"where"` // input, document, output
	Kinds          []string `json:"kinds"`
	QuestionDigest string   `json:"question_digest"`
	Document       string   `json:"document,omitempty"` // of where document
	Chunk          string   `json:"chunk,omitempty"`
}
