package client

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// parseBaseURL reads the address given to New. A bare host:port means plain
// http, as a gRPC target does for programs that come from there.
func parseBaseURL(address string) (*url.URL, error) {
	fail := func(why string) (*url.URL, error) {
		return nil, fmt.Errorf("server address %q: %s", address, why)
	}
	if address == "" {
		return fail("is empty; give one like http://localhost:50051")
	}
	full := address
	if !strings.Contains(full, "://") {
		full = "http://" + full
	}
	u, err := url.Parse(full)
	if err != nil {
		return fail("is not a URL; give one like http://localhost:50051")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return fail("the scheme " + u.Scheme + " is not known; use http:// (plain) or https:// (TLS)")
	}
	if u.Hostname() == "" {
		return fail("names no host; give one like http://localhost:50051")
	}
	if strings.HasSuffix(u.Host, ":") {
		return fail("names no port after the colon")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return fail("the port must be from 1 to 65535")
		}
	}
	if u.User != nil {
		return fail("must not carry a user name or password")
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fail("must not carry a query or a fragment")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u, nil
}

// dialAddress is host:port of u, with the scheme's port where none is given.
func dialAddress(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}
