package infer

// ModelChanged is sent when a model became ready, failed, missing, or another one under the same name:
// once for each change, also over restarts.
const ModelChanged = "aran.infer.model_changed.v1"

// Rollout is sent when a change of the version that serves begins, shifts calls, is done, or goes back.
const Rollout = "aran.infer.rollout.v1"

// RolloutEvent is the data of Rollout.
type RolloutEvent struct {
	Rollout    string `json:"rollout"` // its id
	Name       string `json:"name"`
	From       string `json:"from"` // version
	FromDigest string `json:"from_digest"`
	To         string `json:"to"`
	ToDigest   string `json:"to_digest"`
	Phase      string `json:"phase"`   // starting, checking, shifting, done, rolled_back, interrupted
	Percent    int    `json:"percent"` // of the calls that name no digest
	Reason     string `json:"reason"`  // of rolled_back: load, crash, smoke, gate, errors, latency, patience, stopped, store
	Chosen     string `json:"chosen"`  // who chose the version
}

// ModelEvent is the data of ModelChanged.
type ModelEvent struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"` // SHA-256 of weights, tokenizer and engine
	Status  string `json:"status"` // ready, failed, missing
}
