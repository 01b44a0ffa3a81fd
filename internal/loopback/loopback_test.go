package loopback

import (
	"net"
	"testing"
)

func TestHost(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST": true, "localhost.": true, "localhost:50051": true, "app.localhost": true, "app.localhost:80": true,
		"127.0.0.1": true, "127.8.9.10:1": true, "::1": true, "[::1]": true, "[::1]:443": true, "[::ffff:127.0.0.1]:1": true,
		"": false, ":50051": false, "localhost.example.com": false, "notlocalhost": false, "127.0.0.1.nip.io": false, "0.0.0.0": false,
		"10.0.0.1": false, "[::]": false, "example.com": false, "2130706433": false, "127.1": false, "[::1%lo]": true,
	} {
		if got := Host(host); got != want {
			t.Errorf("Host(%q) = %v, want %v", host, got, want)
		}
	}
}

func TestAddr(t *testing.T) {
	for _, test := range []struct {
		address net.Addr
		want    bool
	}{
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, true},
		{&net.TCPAddr{IP: net.IPv6loopback}, true},
		{&net.TCPAddr{IP: net.IPv4zero}, false},
		{&net.TCPAddr{}, false},
		{&net.UnixAddr{Name: "/run/roster.sock"}, true},
		{&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, false},
	} {
		if got := Addr(test.address); got != test.want {
			t.Errorf("Addr(%v) = %v, want %v", test.address, got, test.want)
		}
	}
}
