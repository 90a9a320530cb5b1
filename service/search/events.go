package search

// Events of this service. They carry ids, digests and counts, never text.
const (
	CollectionCreated   = "aran.search.collection_created.v1"
	CollectionChanged   = "aran.search.collection_changed.v1"
	CollectionDeleted   = "aran.search.collection_deleted.v1"
	CollectionImported  = "aran.search.collection_imported.v1"
	ReembeddingStarted  = "aran.search.reembedding_started.v1"
	ReembeddingEnded    = "aran.search.reembedding_ended.v1"
	DocumentStored      = "aran.search.document_stored.v1"
	DocumentIndexed     = "aran.search.document_indexed.v1"
	DocumentQuarantined = "aran.search.document_quarantined.v1"
	DocumentFailed      = "aran.search.document_failed.v1"
	DocumentReleased    = "aran.search.document_released.v1"
	DocumentDeleted     = "aran.search.document_deleted.v1"
	Retrieved           = "aran.search.retrieved.v1"
)

// CollectionEvent is the data of collection events.
type CollectionEvent struct {
	Collection string `json:"collection"`
	Documents  int64  `json:"documents,omitempty"` // that went or came with it
	Passages   int64  `json:"passages,omitempty"`
	Digest     string `json:"digest,omitempty"`  // of an imported pack
	Encoder    string `json:"encoder,omitempty"` // digest
}

// ReembeddingEvent is the data of events about a collection going over to another encoder.
type ReembeddingEvent struct {
	Collection string `json:"collection"`
	Job        string `json:"job"`
	Model      string `json:"model,omitempty"` // empty: the default encoder
	From       string `json:"from"`            // digest
	Encoder    string `json:"encoder"`         // digest
	Parts      int64  `json:"parts"`
	State      string `json:"state,omitempty"`  // how it ended: done, cancelled, failed
	Reason     string `json:"reason,omitempty"` // a code
}

// DocumentEvent is the data of document events.
type DocumentEvent struct {
	Document   string `json:"document"`
	Collection string `json:"collection"`
	Version    int64  `json:"version"`
	Digest     string `json:"digest,omitempty"`  // SHA-256 of the text
	Chunks     int64  `json:"chunks,omitempty"`  // passages that can be found now
	Encoder    string `json:"encoder,omitempty"` // digest
	Trust      string `json:"trust,omitempty"`
	Reason     string `json:"reason,omitempty"` // a code, and for a scan the kinds of what was found
}

// ReleasedEvent is the data of a release from quarantine. Its actor is the reviewer.
type ReleasedEvent struct {
	Document   string `json:"document"`
	Collection string `json:"collection"`
	Version    int64  `json:"version"`
	Digest     string `json:"digest"`   // SHA-256 of the text
	Passages   int    `json:"passages"` // in which the guard found something
	Reason     string `json:"reason"`   // why it was quarantined
	Note       string `json:"note"`     // why it was released, in the reviewer's words
}

// RetrievedEvent is the data of a retrieval: who saw which passages.
type RetrievedEvent struct {
	RequestID   string   `json:"request_id"`
	Collections []string `json:"collections"`
	Mode        string   `json:"mode"`
	Hits        []string `json:"hits"`         // passages
	QueryDigest string   `json:"query_digest"` // SHA-256
	Degraded    bool     `json:"degraded"`
	Encoder     string   `json:"encoder,omitempty"` // digest
}
