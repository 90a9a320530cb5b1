package infer

import (
	"context"
	"encoding/json"
	"fmt"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/store"
	"aran/service/infer/registry"
)

// Use chooses a version of a model for the whole platform; a rollout brings it about. The errors are those of the
// registry's Use, and fault.Conflict `idempotency_key_reused`.
func (s *Service) Use(ctx context.Context, id auth.Identity, name, version, why, key string) error {
	return s.once(ctx, id.Tenant+"/"+id.Subject+"/use_model", name, key, []byte(name+"\n"+version+"\n"+why), func() error {
		_, err := s.registry.Use(ctx, name, version, registry.Change{By: id.Subject, Why: why})
		return err
	})
}

// Rollback chooses the version that was chosen before. During a rollout that is the one that still serves, and the
// rollout goes back at once. The errors are those of the registry's Rollback, and fault.Conflict
// `former_went_back` when the former version lost its trial.
func (s *Service) Rollback(ctx context.Context, id auth.Identity, name, why, key string) error {
	return s.once(ctx, id.Tenant+"/"+id.Subject+"/rollback_model", name, key, []byte(name+"\n"+why), func() error {
		last, err := rollouts(ctx, s.d.DB, name, 1)
		if err != nil {
			return err
		}
		state, err := s.registry.State(name)
		if err != nil {
			return err
		}
		if len(last) > 0 && last[0].phase == phaseBack && state.Former != nil && state.Former.Version == last[0].to.Version {
			return fault.New(fault.Conflict, "former_went_back", "Version %s of model %s went back by itself (%s); use it by its name to try it again.", last[0].to.Version, name, last[0].reason)
		}
		_, err = s.registry.Rollback(ctx, name, registry.Change{By: id.Subject, Why: why})
		return err
	})
}

// once changes a choice, unless this key was used for it already: then what counts is whether the choice is still
// the one that the first request found.
func (s *Service) once(ctx context.Context, scope, name, key string, request []byte, change func() error) error {
	state, err := s.registry.State(name)
	if err != nil {
		return err
	}
	found := state.Serial
	err = s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		was, err := tx.Replay(ctx, scope, key, request)
		if err != nil {
			return err
		}
		if was != nil {
			return json.Unmarshal(was, &found)
		}
		b, err := json.Marshal(state.Serial)
		if err != nil {
			return fmt.Errorf("remember the choice: %w", err)
		}
		return tx.Remember(ctx, scope, key, request, b)
	})
	if err != nil || found != state.Serial {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	s.kick(name)
	return nil
}
