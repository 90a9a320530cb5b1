package audit

import (
	"fmt"
	"time"
)

// Config is the tuning of the audit log.
type Config struct {
	SignEvery time.Duration `yaml:"sign_every" doc:"the least time between two checkpoints"`
	Workers   int           `yaml:"workers" doc:"events in hand at once; they share commits"`
	ProofWait time.Duration `yaml:"proof_wait" doc:"how long a request for a proof waits for an event that is on its way"`
	Waiters   int           `yaml:"waiters" doc:"requests that may wait so at once; the others are answered at once"`
}

// Default signs four times a second at most.
func Default() Config {
	return Config{SignEvery: 250 * time.Millisecond, Workers: 32, ProofWait: 2 * time.Second, Waiters: 64}
}

// Check names what is wrong.
func (c Config) Check() error {
	switch {
	case c.SignEvery < 10*time.Millisecond || c.SignEvery > 10*time.Second:
		return fmt.Errorf("audit.sign_every is %s: set it between 10ms and 10s", c.SignEvery)
	case c.Workers < 1 || c.Workers > 256:
		return fmt.Errorf("audit.workers is %d: set it between 1 and 256", c.Workers)
	case c.ProofWait < 0 || c.ProofWait > 10*time.Second:
		return fmt.Errorf("audit.proof_wait is %s: set it between 0s and 10s", c.ProofWait)
	case c.Waiters < 0 || c.Waiters > 10_000:
		return fmt.Errorf("audit.waiters is %d: set it between 0 and 10000", c.Waiters)
	}
	return nil
}
