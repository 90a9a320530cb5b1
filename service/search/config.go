package search

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"aran/platform/secret"
)

// Config is the tuning of search.
type Config struct {
	PassageTokens  int           `yaml:"passage_tokens" doc:"tokens of a passage with its title; the built-in encoder sees 254"`
	OverlapTokens  int           `yaml:"overlap_tokens" doc:"tokens of prose that a passage repeats from the one before, at most"`
	EmbedBatch     int           `yaml:"embed_batch" doc:"passages that are sent to the encoder at once"`
	EmbedTimeout   time.Duration `yaml:"embed_timeout" doc:"how long a search waits for the encoder before it goes by words alone"`
	RetryAfter     time.Duration `yaml:"retry_after" doc:"first pause of a document's indexing when encoder or guard are away; doubles up to ten minutes"`
	Collections    int           `yaml:"collections" doc:"collections a tenant may have"`
	Vectors        string        `yaml:"vectors" doc:"where vectors are searched: memory (indexes that each replica loads), pgvector (in the database; needs store.url and the extension vector in it), qdrant or pinecone (a server at search.vectors_url)"`
	VectorsURL     string        `yaml:"vectors_url" doc:"https:// address of Qdrant, or of an index of Pinecone's that was made with the encoder's dimension and the metric cosine or dotproduct; http:// on loopback only"`
	VectorsKey     secret.String `yaml:"vectors_key" doc:"API key of Qdrant or Pinecone, as env:NAME or file:/path"`
	VectorsPrefix  string        `yaml:"vectors_prefix" doc:"before the names of collections or namespaces there, so that platforms can share a server"`
	VectorsTimeout time.Duration `yaml:"vectors_timeout" doc:"how long one request to Qdrant or Pinecone may take"`
	Fusion         string        `yaml:"fusion" doc:"how the lists of words and of meaning become one: scores (each list's scores from 0 to 1, added up), or ranks (reciprocal rank fusion)"`
	FusionK        int           `yaml:"fusion_k" doc:"k of reciprocal rank fusion, with fusion: ranks: the lower, the more the first places of each list count"`
	Rerank         bool          `yaml:"rerank" doc:"let the reranker look at the best passages once more, unless a request says otherwise"`
	RerankDepth    int           `yaml:"rerank_depth" doc:"passages that the reranker looks at"`
	RerankTimeout  time.Duration `yaml:"rerank_timeout" doc:"how long a search waits for the reranker before it goes without"`
	LoadedIndexes  int           `yaml:"loaded_indexes" doc:"vector indexes kept in memory, one a collection"`
	LoadedVectors  int           `yaml:"loaded_vectors" doc:"vectors kept in memory over all indexes; each of the built-in encoder takes 2 kB, or 0.6 kB in a collection with a graph"`
	GraphFrom      int           `yaml:"graph_from" doc:"vectors of a collection from which on a graph finds the nearest (about 19 of 20 of them) in place of an exact comparison with all; 0: never. Graphs are kept in files in the data directory"`
	LoadedPassages int           `yaml:"loaded_passages" doc:"passages whose words are kept in memory over all collections; each takes 0.5 kB"`
}

// Where vectors are searched.
const (
	VectorsMemory   = "memory"
	VectorsPgvector = "pgvector"
	VectorsQdrant   = "qdrant"
	VectorsPinecone = "pinecone"
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
		Collections: 256, Vectors: VectorsMemory, Fusion: FusionScores, FusionK: 20, RerankDepth: 30, RerankTimeout: time.Second, VectorsPrefix: "aran", VectorsTimeout: 5 * time.Second, LoadedIndexes: 64, LoadedVectors: 400_000, GraphFrom: 50_000, LoadedPassages: 1_000_000,
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
	case !slices.Contains([]string{VectorsMemory, VectorsPgvector, VectorsQdrant, VectorsPinecone}, c.Vectors):
		return fmt.Errorf("search.vectors is %q: set it to memory, pgvector, qdrant or pinecone", c.Vectors)
	case c.remote() && c.VectorsURL == "":
		return fmt.Errorf("search.vectors is %s and search.vectors_url is not set: set it to the address of the server", c.Vectors)
	case c.Vectors == VectorsPinecone && c.VectorsKey.Empty():
		return errors.New("search.vectors is pinecone and search.vectors_key is not set: set it to env:NAME or file:/path of the API key")
	case !prefix.MatchString(c.VectorsPrefix):
		return fmt.Errorf("search.vectors_prefix is %q: use 1 to 32 lower case letters, digits and dashes, the first one a letter", c.VectorsPrefix)
	case c.VectorsTimeout < 100*time.Millisecond || c.VectorsTimeout > time.Minute:
		return fmt.Errorf("search.vectors_timeout is %s: set it between 100ms and 1m", c.VectorsTimeout)
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
	case c.GraphFrom < 0 || c.GraphFrom > 0 && c.GraphFrom < 100:
		return fmt.Errorf("search.graph_from is %d: set it to 100 or more, or to 0 for no graphs", c.GraphFrom)
	case c.LoadedPassages < 1000 || c.LoadedPassages > 1_000_000_000:
		return fmt.Errorf("search.loaded_passages is %d: set it between 1000 and 1000000000", c.LoadedPassages)
	case c.LoadedVectors < 1000 || c.LoadedVectors > 1_000_000_000:
		return fmt.Errorf("search.loaded_vectors is %d: set it between 1000 and 1000000000", c.LoadedVectors)
	}
	return nil
}

var prefix = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// remote reports whether vectors are searched on a server of another vendor's.
func (c Config) remote() bool { return c.Vectors == VectorsQdrant || c.Vectors == VectorsPinecone }
