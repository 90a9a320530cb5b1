package infer

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aran/platform/auth"
	"aran/platform/rpc"
	"aran/service/infer/registry"
)

func (s *Service) routes() {
	access := rpc.Access{Scope: auth.ScopeModels}
	rpc.Register(s.public, huma.Operation{
		OperationID: "listModels", Method: http.MethodGet, Path: "/api/v1/models", Summary: "List the platform's own models",
	}, access, s.getModels)
	rpc.Register(s.public, huma.Operation{
		OperationID: "getModel", Method: http.MethodGet, Path: "/api/v1/models/{name}", Summary: "One of the platform's own models",
	}, access, s.getModel)
	manage := rpc.Access{Scope: auth.ScopeModelsWrite}
	rpc.Register(s.public, huma.Operation{
		OperationID: "useModel", Method: http.MethodPost, Path: "/api/v1/models/{name}/use", Summary: "Serve another version of a model, step by step, for the whole platform",
		DefaultStatus: http.StatusAccepted, Errors: changeErrors(),
	}, manage, s.postUse)
	rpc.Register(s.public, huma.Operation{
		OperationID: "rollbackModel", Method: http.MethodPost, Path: "/api/v1/models/{name}/rollback", Summary: "Serve the former version of a model again; a rollout under way goes back at once",
		DefaultStatus: http.StatusAccepted, Errors: changeErrors(),
	}, manage, s.postRollback)
}

func changeErrors() []int {
	return []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}
}

type modelBody struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Title   string `json:"title"`
	Kind    string `json:"kind" enum:"embed,rerank,classify,generate"`
	Digest  string `json:"digest" doc:"SHA-256 of its content"`
	Licence string `json:"licence" doc:"SPDX expression"`
	Status  string `json:"status" enum:"ready,loading,missing,failed"`
	Dim     int    `json:"dim,omitempty" doc:"length of a vector"`
	Context int    `json:"context,omitempty" doc:"tokens that it reads and writes in all"`
	Rollout string `json:"rollout,omitempty" enum:"starting,checking,shifting" doc:"where a change of its version is"`
}

type modelsOut struct {
	Body struct {
		Models []modelBody `json:"models"`
	}
}

func (s *Service) getModels(ctx context.Context, _ *struct{}) (*modelsOut, error) {
	list, err := s.Models(ctx)
	if err != nil {
		return nil, err
	}
	out := &modelsOut{}
	out.Body.Models = make([]modelBody, len(list))
	for i, m := range list {
		out.Body.Models[i] = show(m)
	}
	return out, nil
}

type modelIn struct {
	Name string `path:"name" maxLength:"100"`
}

type modelOut struct{ Body modelDetail }

// modelDetail is a model with all of its versions.
type modelDetail struct {
	modelBody
	Versions []versionBody `json:"versions" doc:"oldest first"`
	Rollouts []rolloutBody `json:"rollouts" doc:"the latest changes of the version that serves, newest first"`
}

type versionBody struct {
	Version        string                `json:"version"`
	Digest         string                `json:"digest" doc:"SHA-256 of its content"`
	Status         string                `json:"status" enum:"ready,loading,missing,failed,installed,refused,unsupported" doc:"installed: it is here and not loaded"`
	Active         bool                  `json:"active" doc:"it answers"`
	Chosen         bool                  `json:"chosen" doc:"it is to answer: a rollout brings it about"`
	Former         bool                  `json:"former" doc:"a rollback goes back to it"`
	Percent        int                   `json:"percent" doc:"of the calls that name no digest"`
	Licence        string                `json:"licence" doc:"SPDX expression"`
	Dim            int                   `json:"dim,omitempty" doc:"length of a vector"`
	Bytes          int64                 `json:"bytes" doc:"size of its files"`
	Refused        string                `json:"refused,omitempty" doc:"why it may not be used"`
	ManifestDigest string                `json:"manifest_digest" doc:"SHA-256 of its manifest"`
	SignedBy       []string              `json:"signed_by,omitempty" doc:"ids of trusted keys"`
	Provenance     *registry.Provenance  `json:"provenance,omitempty"`
	Evaluation     []registry.Evaluation `json:"evaluation,omitempty"`
}

type rolloutBody struct {
	ID      string     `json:"id"`
	From    string     `json:"from" doc:"version"`
	To      string     `json:"to" doc:"version"`
	Phase   string     `json:"phase" enum:"starting,checking,shifting,done,rolled_back,interrupted"`
	Percent int        `json:"percent" doc:"of the calls that name no digest"`
	Reason  string     `json:"reason,omitempty" enum:"load,crash,smoke,gate,errors,latency,patience,stopped,store" doc:"why it went back"`
	Detail  string     `json:"detail,omitempty" doc:"in words, for who may change models"`
	Chosen  string     `json:"chosen,omitempty" doc:"who chose the version, for who may change models"`
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended,omitempty"`
}

func (s *Service) getModel(ctx context.Context, in *modelIn) (*modelOut, error) {
	return s.detail(ctx, in.Name)
}

// shownRollouts of a model are shown.
const shownRollouts = 10

func (s *Service) detail(ctx context.Context, name string) (*modelOut, error) {
	m, err := s.Model(ctx, name)
	if err != nil {
		return nil, err
	}
	if s.elsewhere(name, "", m.Kind) != nil {
		return &modelOut{modelDetail{modelBody: show(m), Versions: []versionBody{}, Rollouts: []rolloutBody{}}}, nil
	}
	all, err := s.registry.Versions(ctx, name)
	if err != nil {
		return nil, err
	}
	rows, err := rollouts(ctx, s.d.DB, name, shownRollouts)
	if err != nil {
		return nil, err
	}
	out := modelDetail{modelBody: show(m), Versions: make([]versionBody, len(all)), Rollouts: make([]rolloutBody, len(rows))}
	for i := range all {
		out.Versions[i] = s.showVersion(&all[i], &m)
	}
	manager := auth.From(ctx).Has(auth.ScopeModelsWrite)
	for i := range rows {
		r := &rows[i]
		out.Rollouts[i] = rolloutBody{ID: r.id, From: r.from.Version, To: r.to.Version, Phase: r.phase, Percent: r.percent, Reason: r.reason, Started: r.started.UTC()}
		if manager {
			out.Rollouts[i].Detail, out.Rollouts[i].Chosen = r.detail, r.actor
		}
		if !r.ended.IsZero() {
			ended := r.ended.UTC()
			out.Rollouts[i].Ended = &ended
		}
	}
	return &modelOut{out}, nil
}

// showVersion shows what the registry knows of a version, and what m says of those that are loaded.
func (s *Service) showVersion(v *registry.Model, m *Model) versionBody {
	out := versionBody{
		Version: v.Version, Digest: v.Digest, Status: string(v.Status), Chosen: v.Active, Former: v.Former, Licence: v.Licence, Dim: v.Dim, Bytes: v.Bytes,
		Refused: v.Why, ManifestDigest: v.ManifestDigest, SignedBy: v.SignedBy, Provenance: v.Provenance, Evaluation: v.Evaluation,
	}
	if v.Engine == registry.Builtin {
		out.Digest, out.Status = s.encoderDigest, string(registry.Installed)
	}
	if v.Engine == registry.Inside {
		out.Status = string(registry.Installed)
	}
	for _, loaded := range m.Versions {
		if loaded.Version == v.Version && loaded.Digest == out.Digest {
			out.Status, out.Active, out.Percent = loaded.Status, loaded.Active, loaded.Percent
		}
	}
	return out
}

type useIn struct {
	Name string `path:"name" maxLength:"100"`
	Key  string `header:"Idempotency-Key" maxLength:"128" doc:"makes it safe to send this again"`
	Body struct {
		Version string `json:"version" minLength:"1" maxLength:"64" doc:"an installed version"`
		Why     string `json:"why,omitempty" maxLength:"200" doc:"for those who read the history"`
	}
}

func (s *Service) postUse(ctx context.Context, in *useIn) (*modelOut, error) {
	key, err := rpc.CheckIdempotencyKey(in.Key)
	if err != nil {
		return nil, err
	}
	if err := s.Use(ctx, auth.From(ctx), in.Name, in.Body.Version, in.Body.Why, key); err != nil {
		return nil, err
	}
	return s.detail(ctx, in.Name)
}

type rollbackIn struct {
	Name string `path:"name" maxLength:"100"`
	Key  string `header:"Idempotency-Key" maxLength:"128" doc:"makes it safe to send this again"`
	Body *struct {
		Why string `json:"why,omitempty" maxLength:"200" doc:"for those who read the history"`
	}
}

func (s *Service) postRollback(ctx context.Context, in *rollbackIn) (*modelOut, error) {
	key, err := rpc.CheckIdempotencyKey(in.Key)
	if err != nil {
		return nil, err
	}
	why := ""
	if in.Body != nil {
		why = in.Body.Why
	}
	if err := s.Rollback(ctx, auth.From(ctx), in.Name, why, key); err != nil {
		return nil, err
	}
	return s.detail(ctx, in.Name)
}

func show(m Model) modelBody {
	return modelBody{m.Name, m.Version, m.Title, m.Kind, m.Digest, m.Licence, m.Status, m.Dim, m.Context, m.Phase}
}
