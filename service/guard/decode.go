package guard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"aran/platform/fault"
	"aran/platform/rpc"
)

// decode reads a JSON object strictly. encoding/json would put marks in place of bytes that are no UTF-8, take the last of two
// fields with one name, and pass over null: another program may have read, or meant, something else, and we refuse them.
// One of the fields that are needed must be there.
func decode(b []byte, in any, needed ...string) error {
	if !utf8.Valid(b) {
		return fault.New(fault.Invalid, "not_utf8", "What was sent is not UTF-8; convert it first.")
	}
	if err := rpc.DecodeJSON(&http.Request{Body: io.NopCloser(bytes.NewReader(b))}, in); err != nil {
		return err
	}
	x := outline{tokens: json.NewDecoder(bytes.NewReader(b)), needed: needed}
	x.tokens.UseNumber()
	if err := x.object(); err != nil {
		return err
	}
	if !x.has {
		return invalidField(needed[0], "it is missing: send "+strings.Join(needed, " or "))
	}
	return nil
}

// outline goes through an object that was decoded.
type outline struct {
	tokens *json.Decoder
	needed []string
	has    bool
}

func (x *outline) object() error {
	t, err := x.tokens.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return invalidField(x.needed[0], "it is missing: send an object with "+strings.Join(x.needed, " or "))
	}
	seen := map[string]string{}
	for x.tokens.More() {
		t, err := x.tokens.Token()
		if err != nil {
			return err
		}
		key, _ := t.(string)
		if before, twice := seen[folded(key)]; twice {
			if before == key {
				return invalidField(key, "it is there twice")
			}
			return invalidField(key, fmt.Sprintf("it is there as %q too", before))
		}
		seen[folded(key)] = key
		if err := x.value(folded(key)); err != nil {
			return err
		}
	}
	return nil
}

// value goes through a field's value. No field holds objects.
func (x *outline) value(field string) error {
	needed := slices.Contains(x.needed, field)
	x.has = x.has || needed
	t, err := x.tokens.Token()
	if err != nil {
		return err
	}
	if t == nil && needed {
		return invalidField(field, "null is no text")
	}
	if t != json.Delim('[') {
		return nil
	}
	for n := 0; x.tokens.More(); n++ {
		if t, err = x.tokens.Token(); err != nil {
			return err
		}
		if t == nil {
			return invalidField(fmt.Sprintf("%s[%d]", field, n), "null is no text")
		}
	}
	_, err = x.tokens.Token()
	return err
}

// folded is the same for names that encoding/json takes for one.
func folded(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return unicode.ToLower(least)
	}, s)
}
