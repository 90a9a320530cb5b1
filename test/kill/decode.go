package kill

import (
	"encoding/json"
	"fmt"
	"io"
)

func decode(r io.Reader, into any) error {
	if err := json.NewDecoder(io.LimitReader(r, 16<<20)).Decode(into); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	return nil
}
