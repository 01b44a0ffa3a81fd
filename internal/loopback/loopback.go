// Package loopback tells whether an address or a name is that of the machine that asks.
package loopback

import (
	"net"
	"net/netip"
	"strings"
)

// Host tells whether a host, with a port or without, is a name of the machine that uses it: an
// address of the loopback, or one of the names that are never anything else (RFC 6761 §6.3). A name
// is not looked up.
func Host(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && address.Unmap().IsLoopback()
}

// Addr tells whether only this machine reaches what listens on an address: one of the loopback, or
// that of a Unix socket.
func Addr(address net.Addr) bool {
	switch a := address.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}
