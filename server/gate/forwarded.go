package gate

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"connectrpc.com/connect"

	"example.com/roster/internal/loopback"
	"example.com/roster/server/rpc"
)

// forwarded finds the client of a request that a trusted proxy has passed on, and makes its address
// that of the request (http.Request.RemoteAddr), which limits and logs go by. Proxies name the client
// in the header Forwarded (RFC 7239) or X-Forwarded-For: each proxy adds the address of its own peer at
// the right. So everything to the left of the rightmost address that is not a trusted proxy's was
// written by somebody who is not trusted, and is not read.
//
// The headers of other peers are never looked at, and without trusted proxies there is no such gate.
type forwarded struct {
	trusted []netip.Prefix
	log     *refusalLog
}

func (f *forwarded) wrap(_ *rpc.Method, next http.Handler) http.Handler { return f.pass(next) }

// pass replaces the address of each request that comes from a trusted proxy, and refuses the request
// if its headers do not tell the client with certainty.
func (f *forwarded) pass(next http.Handler) http.Handler {
	if len(f.trusted) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !f.trusts(peer.Addr()) {
			next.ServeHTTP(w, r)
			return
		}
		if c := rpc.From(r.Context()); c != nil {
			c.Proxied = true
		}
		client, err := f.client(r.Header)
		if err != nil {
			why := connect.NewError(connect.CodeInvalidArgument, err)
			rpc.Refuse(w, r, rpc.ReasonForwarded, why)
			f.log.note(r, why)
			return
		}
		if client.IsValid() {
			r.RemoteAddr = netip.AddrPortFrom(client, 0).String()
		}
		next.ServeHTTP(w, r)
	})
}

func (f *forwarded) trusts(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	for _, prefix := range f.trusted {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}

// client returns the address of the client. It is not valid if the headers do not name one; the request
// then counts for the proxy.
func (f *forwarded) client(header http.Header) (netip.Addr, error) {
	standardHops, err := parseForwarded(header["Forwarded"])
	if err != nil {
		return netip.Addr{}, err
	}
	var usualHops []string
	for _, value := range header["X-Forwarded-For"] {
		for hop := range strings.SplitSeq(value, ",") {
			if hop = strings.Trim(hop, " \t"); hop != "" {
				usualHops = append(usualHops, hop)
			}
		}
	}
	standard, err := f.rightmost(standardHops, "Forwarded")
	if err != nil {
		return netip.Addr{}, err
	}
	usual, err := f.rightmost(usualHops, "X-Forwarded-For")
	switch {
	case err != nil || len(standardHops) == 0:
		return usual, err
	case len(usualHops) > 0 && standard != usual:
		return netip.Addr{}, errDisagree
	}
	return standard, nil
}

// errDisagree is about a request that one header attributes to another client than the other one does:
// a proxy that sets one of them passes on what a client sends of the other.
var errDisagree = errors.New("the headers Forwarded and X-Forwarded-For name different clients: have the proxy set one of them, and remove the other")

// rightmost returns the rightmost address that is not a trusted proxy's, or the leftmost if all are. It
// is not valid if the hop that would name it says that it is unknown.
func (f *forwarded) rightmost(hops []string, name string) (client netip.Addr, err error) {
	for i := len(hops) - 1; i >= 0; i-- {
		if hops[i] == "" || strings.EqualFold(hops[i], "unknown") || hops[i][0] == '_' { // RFC 7239 §6.2 and §6.3
			return netip.Addr{}, nil
		}
		address, ok := parseNode(hops[i])
		if !ok {
			return netip.Addr{}, fmt.Errorf("the header %s has %.50q where the address of a client should be: correct the proxy", name, hops[i])
		}
		if client = address; !f.trusts(address) {
			return client, nil
		}
	}
	return client, nil
}

// parseNode parses an address, which may have a port: an IPv6 address is in brackets then.
func parseNode(text string) (netip.Addr, bool) {
	if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
		text = strings.TrimSuffix(inner, "]")
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		withPort, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}, false
		}
		address = withPort.Addr()
	}
	return address.Unmap().WithZone(""), true
}

// errForwarded is about a header that is not of the form of RFC 7239. Since a quotation mark that is not
// closed would hide what follows it, nothing of such a header is used.
var errForwarded = errors.New("the header Forwarded is malformed: correct the proxy, or have it remove what clients send of it")

// parseForwarded returns the parameter "for" of each element of the header, empty for an element that
// does not have it (RFC 7239 §4).
func parseForwarded(values []string) (hops []string, err error) {
	text := strings.Join(values, ",")
	var hop string
	pairs, named, ready := 0, false, true // ready: a pair may follow
	for {
		text = strings.TrimLeft(text, " \t")
		if text == "" || text[0] == ',' {
			if pairs > 0 { // else it is an empty element of a list, which means nothing (RFC 9110 §5.6.1)
				hops = append(hops, hop)
			}
			if text == "" {
				return hops, nil
			}
			text, hop, pairs, named, ready = text[1:], "", 0, false, true
			continue
		}
		if text[0] == ';' {
			text, ready = text[1:], true
			continue
		}
		name, rest, found := strings.Cut(text, "=")
		if !ready || !found || name == "" || strings.ContainsFunc(name, notInToken) {
			return nil, errForwarded
		}
		value, rest, ok := parseValue(rest)
		if !ok {
			return nil, errForwarded
		}
		if strings.EqualFold(name, "for") {
			if named {
				return nil, errForwarded
			}
			hop, named = value, true
		}
		text, ready = rest, false
		pairs++
	}
}

// parseValue parses the token or quoted string that text begins with. Some proxies leave out the quotes
// of an address with a port or in brackets.
func parseValue(text string) (value, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexFunc(text, func(r rune) bool { return notInToken(r) && !strings.ContainsRune(":[]", r) })
		if end < 0 {
			end = len(text)
		}
		return text[:end], text[end:], end > 0
	}
	var unquoted strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return unquoted.String(), text[i+1:], true
		case '\\':
			if i++; i == len(text) {
				return "", "", false
			}
		}
		unquoted.WriteByte(text[i])
	}
	return "", "", false
}

// notInToken reports whether a character cannot be in a token (RFC 9110 §5.6.2).
func notInToken(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// ParseProxy parses the address of a proxy, or the network (CIDR) of several.
func ParseProxy(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		if address.Zone() != "" {
			return netip.Prefix{}, errors.New("leave out the zone")
		}
		address = address.Unmap()
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("want an address or a network, such as 127.0.0.1 or 10.0.0.0/8")
	case prefix.Bits() == 0:
		return netip.Prefix{}, errors.New("every caller could then give itself any address: name the addresses of your proxies")
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, errors.New("write it as a network of IPv4")
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("is an address within a network: want %v, or the address by itself", prefix.Masked())
	}
	return prefix, nil
}

// notThisMachine says why a request cannot be taken for one of a program on this machine; it is empty
// if it can. What a proxy on this machine passes on comes from the loopback too, so the host must be a
// name of this machine, and nothing may hint at a proxy.
func notThisMachine(r *http.Request) string {
	if c := rpc.From(r.Context()); c != nil && c.Proxied {
		return "it came through a proxy"
	}
	if _, unix := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); !unix {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !peer.Addr().Unmap().IsLoopback() {
			return "its address is not of the loopback"
		}
	}
	if !loopback.Host(r.Host) {
		return fmt.Sprintf("it calls the host %.100q", r.Host)
	}
	for name := range r.Header {
		if addedByProxies[name] || strings.HasPrefix(name, "X-Forwarded") {
			return "it has the header " + name + ", which proxies add"
		}
	}
	return ""
}

// addedByProxies are header fields that only a proxy adds, besides those that begin with X-Forwarded.
var addedByProxies = map[string]bool{
	"Forwarded": true, "Via": true, "X-Real-Ip": true, "X-Client-Ip": true, "X-Cluster-Client-Ip": true, "X-Original-Forwarded-For": true,
	"True-Client-Ip": true, "Cf-Connecting-Ip": true, "Fastly-Client-Ip": true, "X-Envoy-External-Address": true,
}
