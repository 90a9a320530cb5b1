package infer

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"aran/platform/auth"
	"aran/platform/rpc"
)

func (s *Service) routes() {
	access := rpc.Access{Scope: auth.ScopeModels}
	rpc.Register(s.public, huma.Operation{
		OperationID: "listModels", Method: http.MethodGet, Path: "/api/v1/models", Summary: "List the platform's own models",
	}, access, s.getModels)
	rpc.Register(s.public, huma.Operation{
		OperationID: "getModel", Method: http.MethodGet, Path: "/api/v1/models/{name}", Summary: "One of the platform's own models",
	}, access, s.getModel)
}

type modelBody struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Title   string `json:"title"`
	Kind    string `json:"kind" enum:"embed,generate"`
	Digest  string `json:"digest" doc:"SHA-256 of its content"`
	Licence string `json:"licence" doc:"SPDX expression"`
	Status  string `json:"status" enum:"ready,loading,missing,failed"`
	Dim     int    `json:"dim,omitempty" doc:"length of a vector"`
	Context int    `json:"context,omitempty" doc:"tokens that it reads and writes in all"`
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

type modelOut struct{ Body modelBody }

func (s *Service) getModel(ctx context.Context, in *modelIn) (*modelOut, error) {
	m, err := s.Model(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &modelOut{Body: show(m)}, nil
}

func show(m Model) modelBody {
	return modelBody{m.Name, m.Version, m.Title, m.Kind, m.Digest, m.Licence, m.Status, m.Dim, m.Context}
}
