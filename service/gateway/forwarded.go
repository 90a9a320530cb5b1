package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxiesOf reads addresses and networks.
func proxiesOf(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, e := netip.ParseAddr(text)
			if e != nil {
				return nil, fmt.Errorf("gateway.trusted_proxies %q: use an address or a network, as 10.0.0.7 or 10.0.0.0/24", text)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// client is the address of whoever asks, as RemoteAddr has it: behind balancers that are trusted, the last address of
// X-Forwarded-For that is none of theirs. What stands before it anyone may have written.
func client(r *http.Request, trusted []netip.Prefix) string {
	at := func(text string) (netip.Addr, bool) {
		text = strings.TrimSpace(text)
		a, err := netip.ParseAddr(strings.Trim(text, "[]"))
		if p, withPort := netip.ParseAddrPort(text); withPort == nil { // as some balancers write it
			a, err = p.Addr(), nil
		}
		return a.Unmap().WithZone(""), err == nil
	}
	ours := func(a netip.Addr) bool {
		for _, p := range trusted {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	if a, ok := at(host); !ok || !ours(a) {
		return r.RemoteAddr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		a, ok := at(hop)
		if !ok {
			break
		}
		if !ours(a) {
			return net.JoinHostPort(a.String(), "0")
		}
	}
	return r.RemoteAddr
}
