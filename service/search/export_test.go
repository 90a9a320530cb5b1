package search

// Loaded is how many indexes, and vectors over all of them, are in memory.
func (s *Service) Loaded() (indexes, vectors int) {
	s.indexes.mu.Lock()
	defer s.indexes.mu.Unlock()
	for _, i := range s.indexes.byKey {
		indexes++
		vectors += i.len()
	}
	return indexes, vectors
}
