package notify

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"aran/platform/bus"
	"aran/platform/fault"
)

// offer is a kind of event that tenants may be told of: its name outside, and which fields of its data leave. What a
// service adds to an event later stays inside until it is listed here.
type offer struct {
	kind, event string
	fields      []string
}

// kindTest is what the test of a webhook sends; nobody subscribes to it.
const kindTest = "webhook.test"

func offers() []offer {
	document := []string{"document", "collection", "version", "digest", "chunks", "trust", "reason"}
	collection := []string{"collection", "documents", "passages"}
	judged := []string{"request_id", "origin", "kinds", "rules", "score", "text_digest"}
	key := []string{"key", "scopes", "old"}
	return []offer{
		{"chat.blocked", "aran.chat.blocked.v1", []string{"request_id", "requested_model", "where", "kinds", "question_digest", "document", "chunk"}},
		{"chat.fell_back", "aran.chat.fell_back.v1", []string{"request_id", "from", "to", "reason"}},
		{"collection.created", "aran.search.collection_created.v1", collection},
		{"collection.deleted", "aran.search.collection_deleted.v1", collection},
		{"document.deleted", "aran.search.document_deleted.v1", document},
		{"document.failed", "aran.search.document_failed.v1", document},
		{"document.indexed", "aran.search.document_indexed.v1", document},
		{"document.quarantined", "aran.search.document_quarantined.v1", document},
		{"guard.blocked", "aran.guard.blocked.v1", judged},
		{"guard.flagged", "aran.guard.flagged.v1", judged},
		{"guard.redacted", "aran.guard.redacted.v1", judged},
		{"key.created", "aran.user.key_created.v1", key},
		{"key.revoked", "aran.user.key_revoked.v1", key},
		{"key.rotated", "aran.user.key_rotated.v1", key},
	}
}

// offered finds what an event of the bus is called outside.
func offered(event string) (offer, bool) {
	all := offers()
	i := slices.IndexFunc(all, func(o offer) bool { return o.event == event })
	if i < 0 {
		return offer{}, false
	}
	return all[i], true
}

// kinds lists what one may subscribe to.
func kinds() (out []string) {
	for _, o := range offers() {
		out = append(out, o.kind)
	}
	return out
}

// subjects are the types that the bus is asked for.
func subjects() (out []string) {
	for _, o := range offers() {
		out = append(out, o.event)
	}
	return out
}

// checkKinds refuses what nobody sends, and sorts.
func checkKinds(want []string) ([]string, error) {
	out := slices.Clone(want)
	slices.Sort(out)
	out = slices.Compact(out)
	if len(out) == 0 {
		return nil, broken("events", "required", "name at least one; there are "+strings.Join(kinds(), ", "))
	}
	for _, k := range out {
		if !slices.Contains(kinds(), k) {
			return nil, broken("events", "unknown_event", fmt.Sprintf("there is no event %.60q; there are %s", k, strings.Join(kinds(), ", ")))
		}
	}
	return out, nil
}

func broken(path, rule, message string) error {
	f := fault.New(fault.Invalid, "invalid", "The request breaks a rule: see errors.")
	f.Fields = []fault.Field{{Path: path, Rule: rule, Message: message}}
	return f
}

// message is what receivers get (Standard Webhooks, payload structure).
type message struct {
	Type      string         `json:"type"`
	Timestamp string         `json:"timestamp"`
	Data      map[string]any `json:"data"`
}

const maxBody = 40 << 10 // bytes, as an event

// body makes the message of an event: the listed fields of its data, and the event's id, which is its id in the audit log.
func (o offer) body(e bus.Event) ([]byte, error) {
	data := map[string]any{}
	if len(e.Data) > 0 {
		if err := json.Unmarshal(e.Data, &data); err != nil {
			return nil, fault.New(fault.Invalid, "malformed_event", "The data of the event is no object.").Because(err)
		}
	}
	return encode(o.kind, e.ID, e.Time, o.fields, data)
}

func encode(kind, event string, at time.Time, fields []string, data map[string]any) ([]byte, error) {
	out := map[string]any{"event": event}
	for _, f := range fields {
		if v, ok := data[f]; ok {
			out[f] = v
		}
	}
	b, err := json.Marshal(message{Type: kind, Timestamp: at.UTC().Format(time.RFC3339Nano), Data: out})
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	if len(b) > maxBody {
		return nil, fmt.Errorf("encode message: %d bytes, at most %d", len(b), maxBody)
	}
	return b, nil
}

// deliveryID is the header webhook-id: the same for the same event and endpoint, whoever computes it and how often.
func deliveryID(event, endpoint string) string {
	h := sha256.Sum256([]byte(event + "\x00" + endpoint))
	return "msg_" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(h[:20]))
}
