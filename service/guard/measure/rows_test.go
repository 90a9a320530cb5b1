package measure_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"aran/service/guard/measure"
)

func TestRead(t *testing.T) {
	rows, err := measure.Read(fstest.MapFS{
		"b.jsonl": {Data: []byte("{\"text\":\"two\",\"label\":0,\"source\":\"s\",\"licence\":\"MIT\"}\n\n{\"text\":\"\",\"label\":\"1\"}")},
		"a.jsonl": {Data: []byte(`{"text":"one","label":true}`)},
		"c.json":  {Data: []byte("not read")},
	})
	want := []measure.Row{{"one", true, "a"}, {"two", false, "s"}, {"", true, "b"}}
	if err != nil || len(rows) != 3 || rows[0] != want[0] || rows[1] != want[1] || rows[2] != want[2] {
		t.Errorf("%v, %v", rows, err)
	}
	for name, c := range map[string]struct{ file, says string }{
		"no label":         {`{"text":"x"}`, "line 1"},
		"a label of three": {"{\"text\":\"x\",\"label\":1}\n{\"text\":\"x\",\"label\":3}", "line 2"},
		"no text":          {`{"label":1}`, "no text"},
		"no JSON":          {"text", "line 1"},
		"nothing":          {"\n", "no texts"},
	} {
		if _, err := measure.Read(fstest.MapFS{"x.jsonl": {Data: []byte(c.file)}}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := measure.Read(fstest.MapFS{}); err == nil || !strings.Contains(err.Error(), "no *.jsonl") {
		t.Errorf("an empty folder: %v", err)
	}
}
