package notify

import (
	"errors"
	"fmt"
	"time"
)

// Config is the tuning of deliveries.
type Config struct {
	Workers              int             `yaml:"workers" doc:"deliveries in hand at once, in each replica"`
	PerTenant            int             `yaml:"per_tenant" doc:"deliveries of one tenant in hand at once, in all replicas together"`
	MaxEndpoints         int             `yaml:"max_endpoints" doc:"webhooks that a tenant may have"`
	MaxBacklog           int             `yaml:"max_backlog" doc:"deliveries that may wait for one webhook; one that has more is disabled"`
	Timeout              time.Duration   `yaml:"timeout" doc:"for a target to answer"`
	Lease                time.Duration   `yaml:"lease" doc:"how long a replica that is gone keeps others from what it had in hand; more than timeout"`
	Retries              []time.Duration `yaml:"retries" doc:"pauses before the attempts after the first; each gets up to a fifth more at random"`
	DisableAfter         time.Duration   `yaml:"disable_after" doc:"a webhook that did nothing but fail for so long is disabled"`
	SecretOverlap        time.Duration   `yaml:"secret_overlap" doc:"how long the old secret signs too after a rotation"`
	KeepDelivered        time.Duration   `yaml:"keep_delivered" doc:"how long deliveries that arrived are listed"`
	KeepDead             time.Duration   `yaml:"keep_dead" doc:"how long dead letters are kept, and what waits for a disabled webhook"`
	UnsafePrivateTargets bool            `yaml:"unsafe_private_targets" doc:"allow targets in private networks and on this machine, and plain HTTP: whoever may make webhooks can then reach what only this machine should"`
}

// Default tries for about three days, by the schedule that Standard Webhooks recommends.
func Default() Config {
	return Config{
		Workers: 16, PerTenant: 8, MaxEndpoints: 20, MaxBacklog: 10_000, Timeout: 15 * time.Second, Lease: 45 * time.Second,
		Retries: []time.Duration{
			5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
		},
		DisableAfter: 5 * 24 * time.Hour, SecretOverlap: 24 * time.Hour, KeepDelivered: 7 * 24 * time.Hour, KeepDead: 90 * 24 * time.Hour,
	}
}

// Check names the first setting that can't be used.
func (c Config) Check() error {
	switch {
	case c.Workers < 1 || c.Workers > 256:
		return fmt.Errorf("notify.workers is %d: set it between 1 and 256", c.Workers)
	case c.PerTenant < 1:
		return fmt.Errorf("notify.per_tenant is %d: set it to 1 or more", c.PerTenant)
	case c.MaxEndpoints < 1 || c.MaxEndpoints > 1000:
		return fmt.Errorf("notify.max_endpoints is %d: set it between 1 and 1000", c.MaxEndpoints)
	case c.MaxBacklog < 1 || c.MaxBacklog > 1_000_000:
		return fmt.Errorf("notify.max_backlog is %d: set it between 1 and 1000000", c.MaxBacklog)
	case c.Timeout <= 0 || c.Timeout > time.Minute:
		return fmt.Errorf("notify.timeout is %s: set it to more than 0s and at most 1m", c.Timeout)
	case c.Lease <= c.Timeout || c.Lease > 10*time.Minute:
		return fmt.Errorf("notify.lease is %s: set it to more than notify.timeout and at most 10m", c.Lease)
	case len(c.Retries) > 30:
		return fmt.Errorf("notify.retries has %d pauses: use at most 30", len(c.Retries))
	case c.DisableAfter <= 0:
		return fmt.Errorf("notify.disable_after is %s: set it to more than 0s", c.DisableAfter)
	case c.SecretOverlap < 0 || c.SecretOverlap > 30*24*time.Hour:
		return fmt.Errorf("notify.secret_overlap is %s: set it between 0s and 720h", c.SecretOverlap)
	case c.KeepDelivered < time.Hour || c.KeepDead < time.Hour:
		return errors.New("notify.keep_delivered and notify.keep_dead: set them to 1h or more")
	}
	for _, d := range c.Retries {
		if d <= 0 || d > 7*24*time.Hour {
			return fmt.Errorf("notify.retries has a pause of %s: use more than 0s and at most 168h", d)
		}
	}
	return nil
}
