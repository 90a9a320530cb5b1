package bus_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"aran/platform/bus"
)

func TestDecodeRefuses(t *testing.T) {
	const good = `{"specversion":"1.0","id":"1","source":"aran/farm","type":"aran.farm.grown.v1","time":"2026-01-02T03:04:05.000006Z","arantenant":"t","aranactor":"a","data":{"n":1}}`
	e, err := bus.Decode([]byte(good))
	if err != nil || e.Tenant != "t" || e.Actor != "a" || e.Time != time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC) || string(e.Data) != `{"n":1}` {
		t.Fatalf("%+v, %v", e, err)
	}
	for name, c := range map[string]struct{ old, new string }{
		"no JSON":              {`{"specversion"`, `specversion`},
		"another version":      {`"1.0"`, `"0.3"`},
		"no id":                {`"id":"1"`, `"id":""`},
		"a long id":            {`"id":"1"`, `"id":"` + strings.Repeat("x", 129) + `"`},
		"no source":            {`aran/farm`, ``},
		"another's type":       {`aran.farm.grown.v1`, `com.farm.grown.v1`},
		"a wild card as type":  {`aran.farm.grown.v1`, `aran.farm.>`},
		"spaces in the type":   {`aran.farm.grown.v1`, `aran.farm. grown`},
		"an empty part":        {`aran.farm.grown.v1`, `aran..grown`},
		"no such time":         {`2026-01-02T`, `2026-13-02T`},
		"before all events":    {`2026-01-02T`, `0000-01-01T`},
		"a line in the tenant": {`"arantenant":"t"`, `"arantenant":"t\nx"`},
		"a long actor":         {`"aranactor":"a"`, `"aranactor":"` + strings.Repeat("a", 1025) + `"`},
		"too much data":        {`{"n":1}`, `"` + strings.Repeat("x", 50<<10) + `"`},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		if text == good {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if e, err := bus.Decode([]byte(text)); err == nil {
			t.Errorf("%s: decoded to %+v", name, e)
		}
	}
}

// What decodes can be encoded again, and comes out the same.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"aran/farm","type":"aran.farm.grown.v1","time":"2026-01-02T03:04:05.000006+02:00","subject":"s","arantenant":"t","aranactor":"a","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","data":{"n":1}}`))
	f.Add([]byte(`{"specversion":"1.0","id":"\u2028<&>","source":"x","type":"aran.a","data":null}`))
	f.Add([]byte(`{"SPECVERSION":"1.0","Id":"x","source":"x","type":"aran.a","data": [1, 2 ]}`))
	f.Add([]byte(`{"specversion":"1.0","id":"0","source":"0","type":"aran.0","time":"0000-01-01T00:00:00+01:00"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := bus.Decode(b)
		if err != nil {
			return
		}
		first, err := bus.Encode(e)
		if err != nil {
			if len(b) > 20<<10 { // escaping may make it longer than what is allowed
				return
			}
			t.Fatalf("%q decodes but does not encode: %v", b, err)
		}
		again, err := bus.Decode(first)
		if err != nil {
			t.Fatalf("%q does not decode: %v", first, err)
		}
		second, err := bus.Encode(again)
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("%q and %q, %v", first, second, err)
		}
		if again.ID != e.ID || again.Type != e.Type || again.Tenant != e.Tenant || again.Actor != e.Actor || again.Subject != e.Subject || !again.Time.Equal(e.Time) {
			t.Errorf("%+v became %+v", e, again)
		}
	})
}
