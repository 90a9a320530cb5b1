package vector

// SetExact changes how many vectors are compared one by one, so that a test need not store so many.
func (t *Table) SetExact(n int) { t.exact = n }
