package registry

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// PackedExt is the extension of weights in this program's own packed form: numbers only.
const PackedExt = ".aran"

// checkFormat accepts the kinds of files that a model may consist of, by name. Whatever can run code when it
// is loaded (Python pickles, under any of their names) is not among them. Libraries (.so) run code by
// purpose: only llama.cpp's engine has them, pinned like all else, in a process of its own.
func checkFormat(name string) error {
	base := strings.ToLower(path.Base(name))
	ext := path.Ext(base)
	switch {
	case slices.Contains([]string{".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5", ".keras", ".mar", ".zip", ".py"}, ext):
		return fmt.Errorf("%s files can run code when they are loaded; use GGUF or safetensors", ext)
	case slices.Contains([]string{".gguf", ".safetensors", PackedExt, ".so", ".json", ".txt", ".md"}, ext):
		return nil
	case slices.Contains([]string{"license", "licence", "notice", "copying"}, base):
		return nil
	}
	return errors.New("only .gguf, .safetensors, .so, .json, .txt, .md and licences can be part of a model")
}

const maxSafetensorsHeader = 100 << 20

// checkContent looks whether a file is what its name says, so that a pickle does not pass as something else.
func checkContent(f *os.File, name string, size int64) error {
	head := make([]byte, 16)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	head = head[:n]
	var ok bool
	switch path.Ext(strings.ToLower(name)) {
	case ".gguf":
		ok = bytes.HasPrefix(head, []byte("GGUF"))
	case ".so":
		ok = bytes.HasPrefix(head, []byte("\x7fELF"))
	case ".safetensors":
		ok = len(head) > 8 && head[8] == '{'
		if ok {
			n := binary.LittleEndian.Uint64(head)
			ok = n <= maxSafetensorsHeader && n <= uint64(max(0, size-8))
		}
	case ".json":
		t := bytes.TrimLeft(head, " \t\r\n")
		ok = len(t) > 0 && (t[0] == '{' || t[0] == '[' || t[0] == '"')
	default:
		ok = !bytes.HasPrefix(head, []byte("PK\x03\x04")) && !bytes.HasPrefix(head, []byte{0x80}) // a zip (PyTorch), a pickle
	}
	if !ok {
		return fmt.Errorf("%s is not what its name says", name)
	}
	return nil
}
