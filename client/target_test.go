package client

import (
	"strings"
	"testing"
)

func TestTargets(t *testing.T) {
	for address, want := range map[string]target{
		"localhost:50051":                 {name: "http://localhost:50051"},
		"http://localhost:50051/prefix/":  {name: "http://localhost:50051/prefix"},
		"https://roster.example.com":      {name: "https://roster.example.com"},
		"dns:///roster.example.com:50051": {name: "http://roster.example.com:50051"},
		"dns:roster.example.com:50051":    {name: "http://roster.example.com:50051"},
		"dns:50051":                       {name: "http://dns:50051"}, // a host that is called so
		"ipv4:127.0.0.1:50051":            {name: "http://127.0.0.1:50051"},
		"ipv6:[::1]:50051":                {name: "http://[::1]:50051"},
		"ipv6:[fe80::1%eth0]:50051":       {name: "http://[fe80::1%25eth0]:50051"},
		"[fe80::1%eth0]:50051":            {name: "http://[fe80::1%25eth0]:50051"},
		"http://[fe80::1%eth0]:50051":     {name: "http://[fe80::1%25eth0]:50051"},
		"http://[fe80::1%25eth0]:50051":   {name: "http://[fe80::1%25eth0]:50051"},
		"unix:roster.sock":                {socket: "roster.sock", name: "unix:roster.sock"},
		"unix:///run/roster.sock":         {socket: "/run/roster.sock", name: "unix:///run/roster.sock"},
		"unix-abstract:roster":            {socket: "@roster", name: "unix-abstract:roster"},
	} {
		got, err := parseTarget(address, false)
		if err != nil || got.name != want.name || got.socket != want.socket {
			t.Errorf("%s: %q, socket %q, %v; want %q, %q", address, got.name, got.socket, err, want.name, want.socket)
		}
	}
	for address, want := range map[string]string{
		"":                                "is empty",
		"dns://8.8.8.8/example.com:50051": "names a DNS server",
		"dns:///example.com":              "want a host and a port after dns:",
		"ipv4:127.0.0.1":                  "want an address and a port after ipv4:",
		"ipv4:[::1]:50051":                "want an address and a port after ipv4:",
		"ipv4:10.0.0.1:1,10.0.0.2:1":      "several addresses",
		"ipv6:::1:50051":                  "want an address and a port after ipv6:",
		"xds:///roster":                   "the scheme xds of gRPC is not supported",
		"vsock:1:50051":                   "the scheme vsock of gRPC is not supported",
		"passthrough:///localhost:50051":  "the scheme passthrough of gRPC is not supported",
		"ftp://localhost":                 "the scheme ftp is not supported",
		"unix://host/path":                "has no host",
		"unix:":                           "names no Unix socket",
	} {
		if _, err := parseTarget(address, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
	if _, err := parseTarget("http://me:hunter2@localhost:50051", false); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the password is shown: %v", err)
	}
	if got, err := parseTarget("dns:///roster.example.com:50051", true); err != nil || got.name != "https://roster.example.com:50051" {
		t.Errorf("with TLS: %q, %v", got.name, err)
	}
}
