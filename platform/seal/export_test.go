package seal

import "context"

// ParseKeyring is what Local does with the file's content.
func ParseKeyring(b []byte) (*Keyring, error) { return parseKeyring(b) }

// WrappedKey is a subject's data key as it stands in the database.
func WrappedKey(ctx context.Context, b *Box, subject string) []byte {
	r, err := b.find(ctx, b.name(subject))
	if err != nil {
		panic(err)
	}
	return r.dataKey
}
