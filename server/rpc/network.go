package rpc

import "net/netip"

// Network is the address that limits attribute a peer to: an IPv4 address, or the /64 network of an
// IPv6 address, because a subscriber has at least a whole one (RFC 6177).
func Network(address netip.Addr) netip.Addr {
	address = address.Unmap()
	if address.Is4() {
		return address
	}
	network, err := address.WithZone("").Prefix(64)
	if err != nil {
		return netip.Addr{}
	}
	return network.Addr()
}
