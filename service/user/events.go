package user

// Event types. Data holds ids only.
const (
	TypeAccountCreated = "aran.user.account_created.v1"
	TypeSessionCreated = "aran.user.session_created.v1"
	TypeSessionEnded   = "aran.user.session_ended.v1"
	TypeRefreshReused  = "aran.user.refresh_reused.v1"
	TypeKeyCreated     = "aran.user.key_created.v1"
	TypeKeyRotated     = "aran.user.key_rotated.v1"
	TypeKeyRevoked     = "aran.user.key_revoked.v1"
	TypeRevoked        = "aran.user.revoked.v1"
)

// AccountEvent is the data of account_created.
type AccountEvent struct {
	Account string `json:"account"`
}

// SessionEvent is the data of session_created, session_ended and refresh_reused.
type SessionEvent struct {
	Account string `json:"account"`
	Session string `json:"session"`
}

// KeyEvent is the data of key_created, key_rotated and key_revoked.
type KeyEvent struct {
	Key    string   `json:"key"`
	Scopes []string `json:"scopes,omitempty"`
	Old    string   `json:"old,omitempty"` // the key that a rotation replaced
}

// RevokedEvent tells everyone who keeps a verified credential to forget it. The fields that are set must all match.
type RevokedEvent struct {
	Credential string `json:"credential,omitempty"`
	Subject    string `json:"subject,omitempty"`
	Tenant     string `json:"tenant,omitempty"`
}
