package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"time"

	"aran/platform/fault"
)

// rememberedFor is how long an idempotency key keeps its answer.
const rememberedFor = 24 * time.Hour

// Replay looks up what was answered to this idempotency key before; nil: nothing yet. The scope says whose key it is and for
// which operation. Another request under the same key is fault.Conflict. Call it, and Remember, in the transaction of the effect.
func (tx *Tx) Replay(ctx context.Context, scope, key string, request []byte) (answer []byte, err error) {
	if key == "" {
		return nil, nil
	}
	var digest []byte
	err = tx.QueryRow(ctx, tx.db.text.remembered, scope, key).Scan(&digest, &answer)
	if NoRows(err) {
		return nil, nil
	}
	if err != nil {
		return nil, classify(err)
	}
	if h := sha256.Sum256(request); !bytes.Equal(h[:], digest) {
		return nil, fault.New(fault.Conflict, "idempotency_key_reused", "This Idempotency-Key was used for another request.")
	}
	return answer, nil
}

// Remember keeps the answer for a day.
func (tx *Tx) Remember(ctx context.Context, scope, key string, request, answer []byte) error {
	if key == "" {
		return nil
	}
	h := sha256.Sum256(request)
	_, err := tx.Exec(ctx, tx.db.text.remember, scope, key, h[:], answer, time.Now().UnixMicro())
	return err
}
