//go:build faults

package search_test

import (
	"context"
	"testing"
)

func TestKilledAtEveryPoint(t *testing.T) {
	for _, point := range []string{
		"search.document_stored", "search.ingestion_started", "search.scanned", "search.part_encoded", "search.part_indexed", "search.part_indexed@3",
		"search.ingestion_ended", "search.ingestion_ended@4", "search.parked_restarted", "search.swept", "search.document_unlinked", "search.collection_unlinked", "search.pack_installed",
		"search.text_extracted", "search.document_released", "search.collection_changed", "search.reembedding_started", "search.vectors_encoded", "search.vectors_made", "search.vectors_made@3", "search.reembedding_ended", "search.vectors_settled", "search.vectors_settled@2",
	} {
		t.Run(point, func(t *testing.T) {
			dir := t.TempDir()
			nobody := func(context.Context, func()) {}
			next := live(t, dir, 0, nobody, "ARAN_FAULT_KILL="+point)
			if next == len(story()) {
				t.Errorf("%s was never reached", point)
			}
			live(t, dir, next, nobody)
			sound(t, dir)
		})
	}
}
