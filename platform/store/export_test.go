package store

import (
	"testing"
	"time"
)

// Impatient gives a silent server little time.
func Impatient(t *testing.T, d time.Duration) {
	t.Helper()
	was := silence
	silence = d
	t.Cleanup(func() { silence = was })
}
