package registry

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// PackedExt is the extension of weights in this program's own packed form: numbers only.
const PackedExt = ".aran"

// Why a kind of file is not taken.
const (
	whyPickle  = "a Python pickle runs code when it is loaded; use safetensors or GGUF"
	whyArchive = "an archive can hide a pickle, and names that climb out of its folder; list its files one by one"
	whyScript  = "a program is no part of a model"
	whyKeras   = "Keras can hold Python code in Lambda layers; use safetensors"
	whyHDF5    = "HDF5 is Keras' container, which can hold Python code in Lambda layers; use safetensors"
	whyONNX    = "ONNX can name files outside its folder and operators of native code, and no engine here runs it; use safetensors or GGUF"
	whyNumPy   = "NumPy loads arrays of objects as a pickle; use safetensors"
	whyGraph   = "a TensorFlow graph can read and write files when it runs; use safetensors"
	whyBundle  = "a model that is a program too runs whatever is in it; use its GGUF file"
)

// refusedNames are the extensions of formats that can run code, or lead to some.
var refusedNames = map[string]string{
	".pkl": whyPickle, ".pickle": whyPickle, ".p": whyPickle, ".joblib": whyPickle, ".dill": whyPickle, ".cloudpickle": whyPickle,
	".bin": whyPickle, ".pt": whyPickle, ".pth": whyPickle, ".pt2": whyPickle, ".ckpt": whyPickle, ".th": whyPickle, ".ptl": whyPickle,
	".torchscript": whyPickle, ".jit": whyPickle, ".mar": whyPickle, ".nemo": whyPickle, ".skops": whyPickle, ".model": whyPickle,
	".npy": whyNumPy, ".npz": whyNumPy,
	".keras": whyKeras, ".h5": whyHDF5, ".hdf5": whyHDF5, ".hdf": whyHDF5,
	".onnx": whyONNX, ".ort": whyONNX, ".onnx_data": whyONNX, ".data": whyONNX,
	".pb": whyGraph, ".pbtxt": whyGraph, ".tflite": whyGraph, ".index": whyGraph, ".meta": whyGraph,
	".zip": whyArchive, ".tar": whyArchive, ".gz": whyArchive, ".tgz": whyArchive, ".bz2": whyArchive, ".xz": whyArchive, ".zst": whyArchive, ".7z": whyArchive, ".rar": whyArchive, ".whl": whyArchive,
	".py": whyScript, ".pyc": whyScript, ".pyd": whyScript, ".ipynb": whyScript, ".sh": whyScript, ".js": whyScript, ".mjs": whyScript, ".lua": whyScript, ".jar": whyScript, ".class": whyScript,
	".exe": whyScript, ".dll": whyScript, ".dylib": whyScript, ".wasm": whyScript, ".rds": whyScript, ".rdata": whyScript, ".jinja": whyScript, ".jinja2": whyScript,
	".llamafile": whyBundle, ".pte": whyBundle, ".mlmodel": whyBundle, ".mlpackage": whyBundle, ".engine": whyBundle, ".plan": whyBundle,
}

// checkFormat accepts the kinds of files that a model may consist of, by name. Whatever can run code when it
// is loaded is not among them. Libraries (.so) run code by purpose: only llama.cpp's engine has them, pinned like
// all else, in a process of its own.
func checkFormat(name string) error {
	base := strings.ToLower(path.Base(name))
	ext := path.Ext(base)
	if why := refusedNames[ext]; why != "" {
		return fmt.Errorf("%s files are refused: %s", ext, why)
	}
	if slices.Contains([]string{".gguf", ".safetensors", PackedExt, ".so", ".json", ".txt", ".md"}, ext) ||
		slices.Contains([]string{"license", "licence", "notice", "copying"}, base) {
		return nil
	}
	return errors.New("only .gguf, .safetensors, .aran, .so, .json, .txt, .md and licences can be part of a model")
}

// magics are how formats begin that pass under a wrong name.
var magics = []struct {
	at   int
	head string
	what string
	why  string
}{
	{0, "\x80\x02", "a pickle", whyPickle},
	{0, "\x80\x03", "a pickle", whyPickle},
	{0, "\x80\x04", "a pickle", whyPickle},
	{0, "\x80\x05", "a pickle", whyPickle},
	{0, "PK\x03\x04", "a zip archive (PyTorch, TorchScript, Keras, NumPy)", whyArchive},
	{0, "PK\x05\x06", "a zip archive", whyArchive},
	{0, "\x89HDF\r\n\x1a\n", "HDF5", whyHDF5},
	{512, "\x89HDF\r\n\x1a\n", "HDF5", whyHDF5},
	{1024, "\x89HDF\r\n\x1a\n", "HDF5", whyHDF5},
	{2048, "\x89HDF\r\n\x1a\n", "HDF5", whyHDF5},
	{0, "\x93NUMPY", "a NumPy array", whyNumPy},
	{0, "\x1f\x8b", "a gzip archive", whyArchive},
	{0, "BZh", "a bzip2 archive", whyArchive},
	{0, "\xfd7zXZ\x00", "an xz archive", whyArchive},
	{0, "\x28\xb5\x2f\xfd", "a zstd archive", whyArchive},
	{0, "7z\xbc\xaf\x27\x1c", "a 7z archive", whyArchive},
	{0, "Rar!\x1a\x07", "a rar archive", whyArchive},
	{257, "ustar", "a tar archive", whyArchive},
	{4, "TFL3", "TensorFlow Lite", whyGraph},
	{0, "#!", "a script", whyScript},
	{0, "MZ", "a Windows program", whyScript},
	{0, "\xcf\xfa\xed\xfe", "a macOS program", whyScript},
	{0, "\xca\xfe\xba\xbe", "a Java class or a macOS program", whyScript},
	{0, "\x00asm", "WebAssembly", whyScript},
	{0, "\x7fELF", "a Linux program", whyScript},
}

// ContentError says that a file is not what its name says, or holds what can run code.
type ContentError struct{ File, What, Why string }

func (e *ContentError) Error() string {
	if e.Why == "" {
		return fmt.Sprintf("%s is not what its name says: %s", e.File, e.What)
	}
	return fmt.Sprintf("%s is not what its name says: it is %s; %s", e.File, e.What, e.Why)
}

// checkContent looks whether a file is what its name says and nothing else besides, so that a pickle does not pass
// as something else, and a damaged header does not reach native code.
func checkContent(f *os.File, name string, size int64) error {
	head := make([]byte, 4096)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	head = head[:n]
	ext := path.Ext(strings.ToLower(name))
	for _, m := range magics {
		if ext == ".so" && m.head == "\x7fELF" {
			continue
		}
		if ext == ".safetensors" && m.at == 0 && len(m.head) < 4 { // a length may begin like that
			continue
		}
		if len(head) >= m.at+len(m.head) && string(head[m.at:m.at+len(m.head)]) == m.head {
			return &ContentError{name, m.what, m.why}
		}
	}
	if err := checkTail(f, name, size); err != nil {
		return err
	}
	bad := ""
	err = nil
	switch ext {
	case ".so":
		if !bytes.HasPrefix(head, []byte("\x7fELF")) {
			bad = "it is no library"
		}
	case PackedExt:
		if !bytes.HasPrefix(head, []byte("aran")) {
			bad = "it is not in this program's packed form"
		}
	case ".gguf":
		err = checkGGUF(io.NewSectionReader(f, 0, size), size)
	case ".safetensors":
		err = checkSafetensors(io.NewSectionReader(f, 0, size), size)
	case ".json":
		err = checkJSON(io.NewSectionReader(f, 0, size), size)
	default:
		err = checkText(io.NewSectionReader(f, 0, size), size)
	}
	if err != nil {
		bad = err.Error()
	}
	if bad != "" {
		return &ContentError{File: name, What: bad}
	}
	return nil
}

// checkTail finds a zip archive that hangs on the end of another file: readers of zip look there first, so that one
// file is two things. A comment of exactly the right length makes a chance match as good as impossible.
func checkTail(f *os.File, name string, size int64) error {
	const record = 22 // end of central directory, APPNOTE 4.3.16
	tail := make([]byte, min(size, record+1<<16))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	for at := len(tail) - record; at >= 0; at-- {
		end := tail[at:]
		if string(end[:4]) != "PK\x05\x06" || int(binary.LittleEndian.Uint16(end[20:])) != len(end)-record {
			continue
		}
		where := size - int64(len(end))
		if int64(binary.LittleEndian.Uint32(end[12:])) <= where && binary.LittleEndian.Uint16(end[8:]) == binary.LittleEndian.Uint16(end[10:]) {
			return &ContentError{name, "a zip archive too, at its end", whyArchive}
		}
	}
	return nil
}

// Bounds of what is read whole.
const (
	maxJSON     = 64 << 20
	maxText     = 64 << 20
	maxTemplate = 256 << 10
)

// codeKeys are members by which loaders of other programs find code to run.
var codeKeys = map[string]string{
	"auto_map": "names Python code for Transformers", "custom_pipelines": "names Python code for Transformers",
	"py/object": "is a pickle in JSON", "py/reduce": "is a pickle in JSON", "py/function": "is a pickle in JSON", "py/type": "is a pickle in JSON",
}

// checkJSON reads a whole value and refuses what other loaders would run.
func checkJSON(r io.Reader, size int64) error {
	if size > maxJSON {
		return fmt.Errorf("%d bytes of JSON, at most %d", size, maxJSON)
	}
	d := json.NewDecoder(r)
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return fmt.Errorf("no JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("no JSON: there is more after the value")
	}
	return checkValue(v)
}

func checkValue(v any) error {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := checkValue(e); err != nil {
				return err
			}
		}
	case map[string]any:
		for key, e := range v {
			text, _ := e.(string)
			switch {
			case codeKeys[key] != "":
				return fmt.Errorf("%q %s", key, codeKeys[key])
			case key == "class_name" && (text == "Lambda" || text == "TFOpLambda"):
				return errors.New("it has a Lambda layer of Keras, which is Python code")
			case text != "" && (key == "chat_template" || key == "template"):
				if err := checkTemplate(text); err != nil {
					return err
				}
			}
			if err := checkValue(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// escape is what no chat template needs: Jinja's ways out of the template into Python, or to other files. The
// engine here knows the common templates by their text and runs none; others that read the same file do.
var escape = regexp.MustCompile(`__[a-z_]+__|\\x5f|\\u005f|\|\s*attr\b|\b(popen|subprocess|importlib|lipsum|cycler|joiner|getattr|builtins|globals|os\s*\.\s*system)\b|\{%[-+]?\s*(include|import|from|extends)\b`)

// checkTemplate accepts a chat template that stays a template.
func checkTemplate(text string) error {
	if len(text) > maxTemplate {
		return fmt.Errorf("a chat template of %d bytes, at most %d", len(text), maxTemplate)
	}
	if found := escape.FindString(text); found != "" {
		return fmt.Errorf("its chat template has %.40q, a way out of Jinja into code", found)
	}
	return nil
}

// plainPickle is how a pickle of protocol 0 calls something; it is plain text otherwise. A vocabulary may have `cos`
// and the like on lines of their own: what is called is followed by its arguments here, or they stand before it.
var plainPickle = regexp.MustCompile(`c` + codeModules + `\r?\n\w+\r?\n(p\d+\r?\n)?\((p\d+\r?\n)?[SVIUFNTXdlct]|[SVIU'"][^\n]*\r?\ni` + codeModules + `\r?\n\w+\r?\n(p\d+\r?\n)?\.`)

const codeModules = `(os|posix|nt|sys|builtins|__builtin__|subprocess|runpy|importlib|socket|shutil|pty|codecs|operator)`

func checkText(r io.Reader, size int64) error {
	if size > maxText {
		return fmt.Errorf("%d bytes of text, at most %d", size, maxText)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxText+1))
	switch {
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0:
		return errors.New("no text in UTF-8")
	case plainPickle.Match(b):
		return errors.New("it is a pickle; " + whyPickle)
	}
	return nil
}
