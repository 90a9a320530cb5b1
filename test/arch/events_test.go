package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// catalogue is what of api/events/asyncapi.yaml is compared with the code.
type catalogue struct {
	Channels map[string]struct {
		Address string `yaml:"address"`
	} `yaml:"channels"`
	Components struct {
		Schemas map[string]schema `yaml:"schemas"`
	} `yaml:"components"`
}

type schema struct {
	Required   []string       `yaml:"required"`
	Properties map[string]any `yaml:"properties"`
}

// declared is what the services' events.go files say.
type declared struct {
	types   []string
	structs map[string]schema // "chat.AnsweredEvent"
}

func TestEventsAreInTheCatalogue(t *testing.T) {
	b, err := os.ReadFile("../../api/events/asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c catalogue
	if err := yaml.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../service/*/events.go")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files of events: %v", len(files), err)
	}
	d := declared{structs: map[string]schema{}}
	for _, file := range files {
		d.read(t, file)
	}
	for _, p := range differences(c, d) {
		t.Error(p)
	}
	t.Logf("%d events", len(d.types))

	// And it notices what is planted.
	d.types = append(d.types, "aran.chat.planted.v1")
	d.structs["chat.FellBackEvent"] = schema{Required: []string{"request_id"}, Properties: map[string]any{"request_id": nil, "question": nil}}
	d.structs["user.PlantedEvent"] = schema{Properties: map[string]any{"x": nil}}
	delete(d.structs, "infer.ModelEvent")
	found := strings.Join(differences(c, d), "\n")
	for _, want := range []string{"aran.chat.planted.v1", "chat.FellBackEvent", "user.PlantedEvent", "infer.ModelEvent"} {
		if !strings.Contains(found, want) {
			t.Errorf("a planted difference in %s is not noticed", want)
		}
	}
}

func differences(c catalogue, d declared) (out []string) {
	var named []string
	for _, ch := range c.Channels {
		named = append(named, ch.Address)
		if !slices.Contains(d.types, ch.Address) {
			out = append(out, ch.Address+" is in the catalogue and no service declares it")
		}
	}
	for _, e := range d.types {
		if !slices.Contains(named, e) {
			out = append(out, e+" is not in api/events/asyncapi.yaml")
		}
	}
	for name, want := range d.structs {
		has, ok := c.Components.Schemas[name]
		if !ok {
			out = append(out, name+" has no schema in api/events/asyncapi.yaml")
			continue
		}
		if a, b := keys(has.Properties), keys(want.Properties); !slices.Equal(a, b) {
			out = append(out, fmt.Sprintf("%s has the properties %v in the catalogue and %v in the code", name, a, b))
		}
		if a, b := slices.Sorted(slices.Values(has.Required)), slices.Sorted(slices.Values(want.Required)); !slices.Equal(a, b) {
			out = append(out, fmt.Sprintf("%s requires %v in the catalogue and %v in the code", name, a, b))
		}
	}
	for name := range c.Components.Schemas {
		if _, ok := d.structs[name]; !ok && name != "Envelope" {
			out = append(out, name+" is in the catalogue and not in the code")
		}
	}
	return out
}

func keys(m map[string]any) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

var eventType = regexp.MustCompile(`^aran\.[a-z]+\.[a-z_]+\.v\d+$`)

// read collects the event types and the exported structs of a file.
func (d *declared) read(t *testing.T, file string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	service := filepath.Base(filepath.Dir(file))
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if s, err := strconv.Unquote(n.Value); err == nil && eventType.MatchString(s) {
				d.types = append(d.types, s)
			}
		case *ast.TypeSpec:
			if s, ok := n.Type.(*ast.StructType); ok && n.Name.IsExported() {
				d.structs[service+"."+n.Name.Name] = fields(t, s)
			}
		}
		return true
	})
}

func fields(t *testing.T, s *ast.StructType) schema {
	t.Helper()
	out := schema{Properties: map[string]any{}}
	for _, f := range s.Fields.List {
		tag, err := strconv.Unquote(f.Tag.Value)
		if err != nil {
			t.Fatal(err)
		}
		name, more, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		out.Properties[name] = nil
		if more != "omitempty" {
			out.Required = append(out.Required, name)
		}
	}
	return out
}
