package infer

// ModelChanged is sent when a model became ready, failed, missing, or another one under the same name:
// once for each change, also over restarts.
const ModelChanged = "aran.infer.model_changed.v1"

// ModelEvent is the data of ModelChanged.
type ModelEvent struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"` // SHA-256 of weights, tokenizer and engine
	Status  string `json:"status"` // ready, failed, missing
}
