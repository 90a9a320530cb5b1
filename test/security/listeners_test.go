package security

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// listeners lists the TCP addresses that a process listens on (proc(5): net/tcp, state 0A).
func listeners(t *testing.T, pid int) (out []string) {
	t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	sockets := map[string]bool{}
	fds, err := filepath.Glob(filepath.Join(dir, "fd", "*"))
	if err != nil || len(fds) == 0 {
		t.Fatalf("no open files of %d: %v", pid, err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil {
			sockets[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(filepath.Join(dir, "net", table))
		if err != nil {
			continue // a machine without IPv6
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" && sockets[f[9]] {
				out = append(out, address(t, f[1]))
			}
		}
	}
	slices.Sort(out)
	return out
}

// address reads "0100007F:1F90": words of four bytes, each with its lowest byte first.
func address(t *testing.T, s string) string {
	t.Helper()
	host, port, _ := strings.Cut(s, ":")
	ip, err := hex.DecodeString(host)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+4 <= len(ip); i += 4 {
		slices.Reverse(ip[i : i+4])
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(net.IP(ip).String(), fmt.Sprint(n))
}
