package search

import (
	"fmt"
	"time"
)

// Config is the tuning of search.
type Config struct {
	PassageTokens  int           `yaml:"passage_tokens" doc:"tokens of a passage with its title; the built-in encoder sees 254"`
	OverlapTokens  int           `yaml:"overlap_tokens" doc:"tokens of prose that a passage repeats from the one before, at most"`
	EmbedBatch     int           `yaml:"embed_batch" doc:"passages that are sent to the encoder at once"`
	EmbedTimeout   time.Duration `yaml:"embed_timeout" doc:"how long a search waits for the encoder before it goes by words alone"`
	RetryAfter     time.Duration `yaml:"retry_after" doc:"first pause of a document's indexing when encoder or guard are away; doubles up to ten minutes"`
	Collections    int           `yaml:"collections" doc:"collections a tenant may have"`
	Vectors        string        `yaml:"vectors" doc:"where vectors are searched: memory (indexes that each replica loads), or pgvector (in the database; needs store.url and the extension vector in it)"`
	Fusion         string        `yaml:"fusion" doc:"how the lists of words and of meaning become one: scores (each list's scores from 0 to 1, added up), or ranks (reciprocal rank fusion)"`
	FusionK        int           `yaml:"fusion_k" doc:"k of reciprocal rank fusion, with fusion: ranks: the lower, the more the first places of each list count"`
	Rerank         bool          `yaml:"rerank" doc:"let the reranker look at the best passages once more, unless a request says otherwise"`
	RerankDepth    int           `yaml:"rerank_depth" doc:"passages that the reranker looks at"`
	RerankTimeout  time.Duration `yaml:"rerank_timeout" doc:"how long a search waits for the reranker before it goes without"`
	LoadedIndexes  int           `yaml:"loaded_indexes" doc:"vector indexes kept in memory, one a collection"`
	LoadedVectors  int           `yaml:"loaded_vectors" doc:"vectors kept in memory over all indexes; each of the built-in encoder takes 1.5 kB"`
	LoadedPassages int           `yaml:"loaded_passages" doc:"passages whose words are kept in memory over all collections; each takes 0.5 kB"`
}

// Where vectors are searched.
const (
	VectorsMemory   = "memory"
	VectorsPgvector = "pgvector"
)

// How lists are fused.
const (
	FusionScores = "scores"
	FusionRanks  = "ranks"
)

// Default suits the built-in encoder.
func Default() Config {
	return Config{
		PassageTokens: 240, OverlapTokens: 24, EmbedBatch: 32, EmbedTimeout: 2 * time.Second, RetryAfter: 2 * time.Second,
		Collections: 256, Vectors: VectorsMemory, Fusion: FusionScores, FusionK: 20, RerankDepth: 30, RerankTimeout: time.Second, LoadedIndexes: 64, LoadedVectors: 400_000, LoadedPassages: 1_000_000,
	}
}

// Check names what is wrong.
func (c Config) Check() error {
	switch {
	case c.PassageTokens < 64 || c.PassageTokens > 2048:
		return fmt.Errorf("search.passage_tokens is %d: set it between 64 and 2048", c.PassageTokens)
	case c.OverlapTokens < 0 || c.OverlapTokens > c.PassageTokens/4:
		return fmt.Errorf("search.overlap_tokens is %d: set it between 0 and a quarter of search.passage_tokens", c.OverlapTokens)
	case c.EmbedBatch < 1 || c.EmbedBatch > 256:
		return fmt.Errorf("search.embed_batch is %d: set it between 1 and 256", c.EmbedBatch)
	case c.EmbedTimeout < 50*time.Millisecond || c.EmbedTimeout > time.Minute:
		return fmt.Errorf("search.embed_timeout is %s: set it between 50ms and 1m", c.EmbedTimeout)
	case c.RetryAfter < time.Millisecond || c.RetryAfter > 10*time.Minute:
		return fmt.Errorf("search.retry_after is %s: set it between 1ms and 10m", c.RetryAfter)
	case c.Collections < 1 || c.Collections > 100_000:
		return fmt.Errorf("search.collections is %d: set it between 1 and 100000", c.Collections)
	case c.Vectors != VectorsMemory && c.Vectors != VectorsPgvector:
		return fmt.Errorf("search.vectors is %q: set it to memory or pgvector", c.Vectors)
	case c.Fusion != FusionScores && c.Fusion != FusionRanks:
		return fmt.Errorf("search.fusion is %q: set it to scores or ranks", c.Fusion)
	case c.FusionK < 1 || c.FusionK > 1000:
		return fmt.Errorf("search.fusion_k is %d: set it between 1 and 1000", c.FusionK)
	case c.RerankDepth < 1 || c.RerankDepth > 100:
		return fmt.Errorf("search.rerank_depth is %d: set it between 1 and 100", c.RerankDepth)
	case c.RerankTimeout < 10*time.Millisecond || c.RerankTimeout > time.Minute:
		return fmt.Errorf("search.rerank_timeout is %s: set it between 10ms and 1m", c.RerankTimeout)
	case c.LoadedIndexes < 1 || c.LoadedIndexes > 100_000:
		return fmt.Errorf("search.loaded_indexes is %d: set it between 1 and 100000", c.LoadedIndexes)
	case c.LoadedPassages < 1000 || c.LoadedPassages > 1_000_000_000:
		return fmt.Errorf("search.loaded_passages is %d: set it between 1000 and 1000000000", c.LoadedPassages)
	case c.LoadedVectors < 1000 || c.LoadedVectors > 1_000_000_000:
		return fmt.Errorf("search.loaded_vectors is %d: set it between 1000 and 1000000000", c.LoadedVectors)
	}
	return nil
}
