package client

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"example.com/roster/internal/printable"
	"example.com/roster/internal/unixaddr"
)

// A target is the server that a Client calls.
type target struct {
	// base is its URL. That of a Unix socket has the host localhost, as gRPC has it.
	base *url.URL
	// socket is the path of a Unix socket, empty for TCP.
	socket string
	// name is what errors call it.
	name string
}

// parseTarget reads the address given to New. A bare host:port means http, as a gRPC target does, for
// programs that are ported from gRPC. secure says whether a gRPC target is called with TLS.
func parseTarget(address string, secure bool) (target, error) {
	t, err := readTarget(address, secure)
	if err != nil {
		if at := strings.LastIndexByte(address, '@'); at >= 0 && strings.Contains(address[:at], ":") {
			address = "…" + address[at:] // there may be a password before it
		}
		return target{}, fmt.Errorf("server address %q: %w", address, err)
	}
	return t, nil
}

func readTarget(address string, secure bool) (target, error) {
	scheme := "http"
	if secure {
		scheme = "https"
	}
	if path, found, err := unixaddr.Parse(address); err != nil || found {
		return target{base: &url.URL{Scheme: scheme, Host: "localhost"}, socket: path, name: printable.Line(address)}, err
	}
	if hostPort, found, err := grpcTarget(address); err != nil {
		return target{}, err
	} else if found {
		address = scheme + "://" + hostPort
	}
	if address == "" {
		return target{}, errors.New("is empty; give one like http://localhost:50051")
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	base, err := parseBaseURL(address)
	if err != nil {
		return target{}, err
	}
	return target{base: base, name: base.String()}, nil
}

// grpcTarget returns the host and port of a target in gRPC's own notation (its document naming.md),
// as far as that names one address. A name that gRPC resolves in another way is an error; found is
// false for what is no such notation.
func grpcTarget(address string) (hostPort string, found bool, err error) {
	scheme, rest, _ := strings.Cut(address, ":")
	if _, err := strconv.Atoi(rest); err == nil {
		return "", false, nil // a host of that name, and its port
	}
	switch scheme {
	case "dns":
		if authority, slashes := strings.CutPrefix(rest, "//"); slashes {
			server, name, _ := strings.Cut(authority, "/")
			if server != "" {
				return "", true, errors.New("names a DNS server, and this client asks the one of this machine; use dns:///host:port")
			}
			rest = name
		}
	case "ipv4", "ipv6":
		if strings.Contains(rest, ",") {
			return "", true, errors.New("has several addresses, and a client is for one")
		}
		address, err := netip.ParseAddrPort(rest)
		if err != nil || address.Addr().Is4() != (scheme == "ipv4") {
			return "", true, fmt.Errorf("want an address and a port after %s:, as in ipv4:127.0.0.1:50051 or ipv6:[::1]:50051", scheme)
		}
	case "passthrough", "vsock", "xds", "google-c2p":
		return "", true, fmt.Errorf("the scheme %s of gRPC is not supported; use host:port, unix:PATH, http:// or https://", scheme)
	default:
		return "", false, nil
	}
	if _, port, err := net.SplitHostPort(rest); err != nil || port == "" {
		return "", true, fmt.Errorf("want a host and a port after %s:, as in dns:///roster.example.com:50051", scheme)
	}
	return rest, true, nil
}

// parseBaseURL reads a URL.
func parseBaseURL(address string) (*url.URL, error) {
	u, err := url.Parse(escapeZone(address))
	if err != nil {
		return nil, errors.New("is not a URL; give one like http://localhost:50051")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the scheme " + u.Scheme + " is not supported; use http:// (cleartext) or https:// (TLS)")
	}
	if u.Hostname() == "" {
		return nil, errors.New("names no host; give one like http://localhost:50051")
	}
	if strings.HasSuffix(u.Host, ":") {
		return nil, errors.New("names no port after the colon")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, errors.New("the port must be from 1 to 65535")
		}
	}
	if u.User != nil {
		return nil, errors.New("must not contain a user name or password")
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, errors.New("must not contain a query or a fragment")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u, nil
}

// escapeZone writes the zone of an IPv6 address as a URL has it (RFC 6874), with %25, if it is written
// as everywhere else: [fe80::1%eth0].
func escapeZone(address string) string {
	before, rest, found := strings.Cut(address, "[")
	host, after, closed := strings.Cut(rest, "]")
	if !found || !closed || strings.Contains(host, "%25") {
		return address
	}
	return before + "[" + strings.Replace(host, "%", "%25", 1) + "]" + after
}
