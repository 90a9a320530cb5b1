package notify

// Events of this service. They carry ids and digests, never a URL, a secret or a body.
const (
	EndpointCreated       = "aran.notify.endpoint_created.v1"
	EndpointChanged       = "aran.notify.endpoint_changed.v1"
	EndpointSecretRotated = "aran.notify.endpoint_secret_rotated.v1" //nolint:gosec // a name
	EndpointDeleted       = "aran.notify.endpoint_deleted.v1"
	EndpointDisabled      = "aran.notify.endpoint_disabled.v1"
	DeliveryDead          = "aran.notify.delivery_dead.v1"
	DeliveryReplayed      = "aran.notify.delivery_replayed.v1"
)

// EndpointEvent is the data of endpoint events.
type EndpointEvent struct {
	Endpoint  string   `json:"endpoint"`
	Events    []string `json:"events,omitempty"`
	Enabled   bool     `json:"enabled"`
	URLDigest string   `json:"url_digest,omitempty"` // SHA-256, hex
	Reason    string   `json:"reason,omitempty"`     // why it was disabled: gone, failing, backlog
}

// DeliveryEvent is the data of delivery events.
type DeliveryEvent struct {
	Endpoint string `json:"endpoint"`
	Delivery string `json:"delivery"` // the header webhook-id
	Event    string `json:"event"`    // id of the event that was to be told
	Kind     string `json:"kind"`     // its type as receivers know it
	Attempts int64  `json:"attempts"`
	Reason   string `json:"reason,omitempty"` // kind of the last error
}
