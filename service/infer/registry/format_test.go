package registry

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func safetensorsFile(head string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(head)))
	return append(append(b, head...), data...)
}

const goodHead = `{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}}`

func goodTensors() []byte { return safetensorsFile(goodHead, make([]byte, 16)) }

// zipFile is an archive as PyTorch, TorchScript, Keras and NumPy write them: a pickle with a name.
func zipFile(t testing.TB, name string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(name)
	if err == nil {
		_, err = w.Write(pickled())
	}
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pickled calls os.system("id") when it is loaded (protocol 4).
func pickled() []byte {
	return []byte("\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.")
}

func tarFile() []byte {
	b := make([]byte, 1024)
	copy(b, "model.pkl")
	copy(b[257:], "ustar\x0000")
	return b
}

// inspectBytes runs the check of content as a pull does, before a file is kept.
func inspectBytes(t testing.TB, name string, b []byte) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return checkContent(f, name, int64(len(b)))
}

func TestContentThatIsTaken(t *testing.T) {
	for name, b := range map[string][]byte{
		"model.gguf":            ggufFile("x"),
		"template.gguf":         ggufWith(map[string]string{"tokenizer.chat_template": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"}, make([]byte, 32)),
		"model.safetensors":     goodTensors(),
		"empty.safetensors":     safetensorsFile(`{}  `, nil),
		"model.aran":            []byte("aranmlm1 and numbers"),
		"lib/a.so":              []byte("\x7fELF"),
		"config.json":           []byte(`{"architectures":["BertModel"],"hidden_size":384}`),
		"vocab.json":            []byte(`["a","b"]`),
		"tokenizer_config.json": []byte(`{"chat_template":"{{ messages[0]['content'] }}"}`),
		"vocab.txt":             []byte("[PAD]\ncos\nsin\ntan\nஅரண்\n"),
		"LICENSE":               []byte("Apache License"),
		"README.md":             []byte("# A model"),
	} {
		if err := errors.Join(checkFormat(name), inspectBytes(t, name, b)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFormatsThatAreRefusedByName(t *testing.T) {
	for name, why := range map[string]string{
		"model.pkl": "pickle", "pytorch_model.bin": "pickle", "model.PT": "pickle", "a.pth": "pickle", "a.ckpt": "pickle", "a.joblib": "pickle", "a.dill": "pickle", "a.torchscript": "pickle", "a.nemo": "pickle",
		"a.npy": "NumPy", "a.npz": "NumPy", "model.keras": "Lambda", "model.h5": "Lambda", "model.onnx": "outside its folder", "model.onnx_data": "outside its folder",
		"saved_model.pb": "TensorFlow", "a.tflite": "TensorFlow", "model.zip": "archive", "model.tar": "archive", "a.whl": "archive",
		"modeling.py": "program", "run.sh": "program", "a.jinja": "program", "a.dll": "program", "a.llamafile": "program", "a.engine": "program",
		"model.weights": "only .gguf", "model": "only .gguf",
	} {
		err := checkFormat(name)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v; want an error with %q", name, err, why)
		}
	}
}

func TestContentThatIsRefused(t *testing.T) {
	template := func(s string) []byte {
		return ggufWith(map[string]string{"tokenizer.chat_template": s}, make([]byte, 32))
	}
	pickle := pickled()
	for _, c := range []struct {
		name, file string
		b          []byte
		why        string
	}{
		{"a pickle as GGUF", "model.gguf", pickle, "a pickle"},
		{"a pickle as packed weights", "model.aran", pickle, "a pickle"},
		{"a pickle as text", "vocab.txt", pickle, "a pickle"},
		{"a pickle of protocol 0 as text", "vocab.txt", []byte("cos\nsystem\n(S'id'\ntR."), "pickle"},
		{"a pickle of protocol 0 as a licence", "LICENSE", []byte("c__builtin__\neval\n(S'1'\ntR."), "pickle"},
		{"an older pickle as text", "vocab.txt", []byte("(S'id'\nios\nsystem\n."), "pickle"},
		{"a pickle as JSON", "config.json", pickle, "a pickle"},
		{"a pickle in JSON", "config.json", []byte(`{"a":[{"py/reduce":[{"py/type":"os.system"}]}]}`), "pickle in JSON"},
		{"PyTorch's zip as safetensors", "model.safetensors", zipFile(t, "archive/data.pkl"), "zip archive"},
		{"TorchScript as packed weights", "model.aran", zipFile(t, "code/__torch__.py"), "zip archive"},
		{"Keras' zip as JSON", "config.json", zipFile(t, "config.json"), "zip archive"},
		{"a zip behind a good safetensors file", "model.safetensors", append(goodTensors(), zipFile(t, "data.pkl")...), "zip archive too"},
		{"a zip behind a good GGUF file", "model.gguf", append(ggufFile("x"), zipFile(t, "data.pkl")...), "zip archive too"},
		{"a zip behind packed weights", "model.aran", append([]byte("aranmlm1"), zipFile(t, "data.pkl")...), "zip archive too"},
		{"a zip behind text", "vocab.txt", append([]byte("a\nb\n"), zipFile(t, "data.pkl")...), "zip archive too"},
		{"a zip as a tensor", "model.safetensors", func() []byte {
			z := zipFile(t, "data.pkl")
			return safetensorsFile(fmt.Sprintf(`{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%[1]d]}}`, len(z)), z)
		}(), "zip archive too"},
		{"a pickle behind the tensors", "model.safetensors", append(goodTensors(), pickle...), "belong to no tensor"},
		{"a pickle between the tensors", "model.safetensors", safetensorsFile(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[60,64]}}`, make([]byte, 64)), "gap"},
		{"tensors over each other", "model.safetensors", safetensorsFile(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}`, make([]byte, 6)), "overlap"},
		{"the same tensor twice", "model.safetensors", safetensorsFile(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}`, make([]byte, 8)), "twice"},
		{"a tensor of objects", "model.safetensors", safetensorsFile(`{"a":{"dtype":"O","shape":[1],"data_offsets":[0,8]}}`, make([]byte, 8)), "type"},
		{"a shape that overflows", "model.safetensors", safetensorsFile(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}`, make([]byte, 8)), "more numbers"},
		{"a shape that lies", "model.safetensors", safetensorsFile(`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, make([]byte, 8)), "does not fit"},
		{"a head longer than the file", "model.safetensors", binary.LittleEndian.AppendUint64(nil, 1<<40), "head of"},
		{"HDF5 as packed weights", "model.aran", []byte("\x89HDF\r\n\x1a\n..."), "HDF5"},
		{"HDF5 behind a user block", "model.aran", append(append([]byte("aran"), make([]byte, 508)...), "\x89HDF\r\n\x1a\n"...), "HDF5"},
		{"a NumPy array of objects", "model.aran", []byte("\x93NUMPY\x01\x00v\x00{'descr': '|O'"), "NumPy"},
		{"ONNX as packed weights", "model.aran", []byte("\x08\x07\x12\x07pytorch"), "packed form"},
		{"ONNX as GGUF", "model.gguf", []byte("\x08\x07\x12\x07pytorch"), "no GGUF"},
		{"TensorFlow Lite", "model.aran", []byte("\x1c\x00\x00\x00TFL3"), "TensorFlow"},
		{"a tar archive", "vocab.txt", tarFile(), "tar archive"},
		{"a gzip archive", "model.gguf", []byte("\x1f\x8b\x08\x00"), "gzip"},
		{"a library as text", "vocab.txt", []byte("\x7fELF\x02\x01"), "Linux program"},
		{"a library as weights", "model.gguf", []byte("\x7fELF\x02\x01"), "Linux program"},
		{"a script as text", "README.md", []byte("#!/bin/sh\nid\n"), "script"},
		{"a script as a library", "lib/a.so", []byte("#!/bin/sh\nid\n"), "script"},
		{"no library", "lib/a.so", []byte("numbers"), "no library"},
		{"a Windows program", "lib/a.so", []byte("MZ\x90\x00"), "Windows"},
		{"WebAssembly", "model.aran", []byte("\x00asm\x01"), "WebAssembly"},
		{"JSON that names code", "config.json", []byte(`{"auto_map":{"AutoModel":"evil--modeling.Evil"}}`), "auto_map"},
		{"JSON with a Lambda layer", "config.json", []byte(`{"config":{"layers":[{"class_name":"Lambda"}]}}`), "Lambda"},
		{"JSON and more", "config.json", []byte(`{} {"a":1}`), "after the value"},
		{"JSON with a template that escapes", "tokenizer_config.json", []byte(`{"chat_template":"{{ ''.__class__.__mro__ }}"}`), "way out"},
		{"binary as text", "vocab.txt", []byte("a\x00b"), "no text"},
		{"a template with Python inside", "model.gguf", template(`{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}`), "way out"},
		{"a template with hidden underscores", "model.gguf", template(`{{ ''['\x5f\x5fclass\x5f\x5f'] }}`), "way out"},
		{"a template with attr", "model.gguf", template(`{{ x|attr('y') }}`), "way out"},
		{"a template that includes a file", "model.gguf", template(`{% include '/etc/passwd' %}`), "way out"},
		{"a template that calls a program", "model.gguf", template(`{{ lipsum }}`), "way out"},
		{"a named template", "model.gguf", ggufWith(map[string]string{"tokenizer.chat_template.tool_use": "{% import 'os' as o %}"}, make([]byte, 32)), "way out"},
		{"an old GGUF", "model.gguf", append([]byte("GGUF\x01\x00\x00\x00"), make([]byte, 16)...), "version 1"},
		{"GGUF with a billion keys", "model.gguf", append(append([]byte("GGUF\x03\x00\x00\x00"), make([]byte, 8)...), "\x00\x00\x00\x40\x00\x00\x00\x00"...), "keys"},
		{"GGUF with a text longer than the file", "model.gguf", append(append([]byte("GGUF\x03\x00\x00\x00"), make([]byte, 8)...), "\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00a\x08\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\x7f"...), "longer than the file"},
		{"GGUF that is cut off", "model.gguf", ggufFile("x")[:60], "longer than the file"},
		{"GGUF without its data", "model.gguf", ggufFile("x")[:len(ggufFile("x"))-128], "ends before"},
	} {
		err := inspectBytes(t, c.file, c.b)
		if wrong := new(ContentError); !errors.As(err, &wrong) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s (%s): %v; want an error with %q", c.name, c.file, err, c.why)
		}
	}
}

func FuzzGGUF(f *testing.F) {
	f.Add(ggufFile("x"))
	f.Add(ggufWith(map[string]string{"tokenizer.chat_template": "{{ a }}", "b": "c"}, make([]byte, 64)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkGGUF(bytes.NewReader(b), int64(len(b))) == nil && checkGGUF(bytes.NewReader(b[:min(len(b), 23)]), int64(min(len(b), 23))) == nil {
			t.Error("a file without its counts was taken")
		}
	})
}

func FuzzSafetensors(f *testing.F) {
	f.Add(goodTensors())
	f.Add(safetensorsFile(`{}`, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkSafetensors(bytes.NewReader(b), int64(len(b))) != nil {
			return
		}
		if more := append(bytes.Clone(b), 0); checkSafetensors(bytes.NewReader(more), int64(len(more))) == nil {
			t.Errorf("a byte that belongs to no tensor was taken: %q", b)
		}
	})
}
