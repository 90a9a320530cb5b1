package recommend

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"time"
)

// Config is the tuning of recommendations. Types is the closed set of what people can do with an item.
type Config struct {
	HalfLife     time.Duration      `yaml:"half_life" doc:"after this time an interaction counts half; whole days, 24h to 8760h"`
	Keep         time.Duration      `yaml:"keep" doc:"interactions older than this are deleted; at most 512 half-lives"`
	Types        map[string]float64 `yaml:"types" doc:"types of interactions and what each adds to an item's popularity; below 0 takes away. A change holds for interactions that come after it"`
	Consumed     []string           `yaml:"consumed" doc:"types after which an item is not recommended to that user again; types that take away always do"`
	MaxWeight    float64            `yaml:"max_weight" doc:"the largest weight that a client may give an interaction"`
	Items        int                `yaml:"items" doc:"items a tenant may have"`
	Interactions int                `yaml:"interactions" doc:"interactions a tenant may have; one is kept for each user, item, type and day"`
}

const (
	maxTypes     = 16  // the queries have places for so many
	maxHalfLives = 512 // a float64 holds 2^±1022
	milli        = 1000
	day          = 24 * time.Hour
)

// Default counts two weeks as half.
func Default() Config {
	return Config{
		HalfLife: 14 * day, Keep: 400 * day, MaxWeight: 10, Items: 1_000_000, Interactions: 50_000_000,
		Types:    map[string]float64{"view": 1, "click": 2, "like": 3, "save": 3, "share": 3, "rate": 1, "cart": 4, "purchase": 8, "consume": 5, "dislike": -3},
		Consumed: []string{"purchase", "consume"},
	}
}

var typeName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// Check names the first setting that can't be used.
func (c Config) Check() error {
	switch {
	case c.HalfLife < day || c.HalfLife > 365*day || c.HalfLife%day != 0:
		return fmt.Errorf("recommend.half_life is %s: use whole days from 24h to 8760h", c.HalfLife)
	case c.Keep < day || c.Keep > maxHalfLives*c.HalfLife:
		return fmt.Errorf("recommend.keep is %s: use 24h to %s, which is %d times recommend.half_life", c.Keep, maxHalfLives*c.HalfLife, maxHalfLives)
	case !(c.MaxWeight >= 1 && c.MaxWeight <= 1000):
		return fmt.Errorf("recommend.max_weight is %v: use 1 to 1000", c.MaxWeight)
	case c.Items < 1 || c.Items > 100_000_000:
		return fmt.Errorf("recommend.items is %d: use 1 to 100000000", c.Items)
	case c.Interactions < 1 || c.Interactions > 10_000_000_000:
		return fmt.Errorf("recommend.interactions is %d: use 1 to 10000000000", c.Interactions)
	case len(c.Types) == 0 || len(c.Types) > maxTypes:
		return fmt.Errorf("recommend.types has %d types: name 1 to %d", len(c.Types), maxTypes)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Types)) {
		if !typeName.MatchString(name) {
			return fmt.Errorf("recommend.types: %q is not a name; use lower case letters, digits and _", name)
		}
		if w := math.Abs(c.Types[name]); !(w >= 1.0/milli && w <= c.MaxWeight) {
			return fmt.Errorf("recommend.types.%s is %v: use 0.001 to recommend.max_weight, or the same below 0", name, c.Types[name])
		}
	}
	for _, name := range c.Consumed {
		if _, ok := c.Types[name]; !ok {
			return fmt.Errorf("recommend.consumed names %q, which is not among recommend.types", name)
		}
	}
	return nil
}

// model names what ranks: another configuration is another model.
func (c Config) model() string {
	settings := fmt.Appendf(nil, "popularity/1 %s %s %q", c.HalfLife, c.Keep, c.leftOut())
	for _, name := range slices.Sorted(maps.Keys(c.Types)) {
		settings = fmt.Appendf(settings, " %s=%v", name, c.Types[name])
	}
	sum := sha256.Sum256(settings)
	return "popularity@" + hex.EncodeToString(sum[:])[:12]
}

// leftOut are the types after which an item is not recommended again.
func (c Config) leftOut() []string {
	out := slices.Clone(c.Consumed)
	for name, w := range c.Types {
		if w < 0 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
