package recommend

// Events of this service. They carry ids, digests and counts; a user stands in them as a pseudonym that nobody can compute
// any more once the user was erased.
const (
	TypeRanked     = "aran.recommend.ranked.v1"
	TypeUserErased = "aran.recommend.user_erased.v1"
)

// RankedEvent is the data of a ranking: who was shown which items, and what ranked them.
type RankedEvent struct {
	RequestID     string   `json:"request_id"`
	Model         string   `json:"model"`
	Rung          string   `json:"rung"`
	Items         []string `json:"items"`                    // the best first
	User          string   `json:"user,omitempty"`           // pseudonym; absent for nobody, and for one of whom nothing is known
	ContextDigest string   `json:"context_digest,omitempty"` // SHA-256, hex
}

// UserErasedEvent is the data of an erasure.
type UserErasedEvent struct {
	User         string `json:"user"` // pseudonym, which stands for nobody from now on
	Interactions int64  `json:"interactions"`
}
