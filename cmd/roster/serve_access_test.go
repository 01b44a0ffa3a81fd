package main

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/roster/internal/loopback"
	"example.com/roster/server"
	"example.com/roster/server/auth"
)

func TestServeRefusesTokenFiles(t *testing.T) {
	folder := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const empty = `{"version":1,"tokens":[]}`
	for _, test := range []struct{ path, want string }{
		{file("open.json", empty, 0o644), "every user of this machine has access to it (mode 0644): run chmod o= "},
		{file("group.json", empty, 0o620), "its group may change it (mode 0620): run chmod g-w "},
		{file("cut.json", empty[:10], 0o600), "it is malformed at line 1"},
		{filepath.Join(folder, "none.json"), "there is no token file " + filepath.Join(folder, "none.json") + ": create it with roster token create"},
	} {
		code, stdout, stderr := roster(t, "serve", "--addr", "localhost:0", "--store", filepath.Join(folder, "roster.db"), "--tokens", test.path)
		if code != 1 || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, want 1 and %q", test.path, code, stdout, stderr, test.want)
		}
	}
	if code, _, stderr := roster(t, "serve", "--open-reads"); code != 2 || !strings.Contains(stderr, "--open-reads goes with --tokens: without tokens everybody may read anyway") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
}

func TestServeWarnsOfWhatIsOpen(t *testing.T) {
	none := func() *auth.Set { return nil }
	proxies := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	for _, test := range []struct {
		name    string
		address net.Addr
		config  server.Config
		want    string
		bridges bool
	}{
		{"this machine", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, server.Config{}, "", false},
		{"this machine, IPv6", &net.TCPAddr{IP: net.IPv6loopback}, server.Config{}, "", false},
		{"a socket file", &net.UnixAddr{Name: "/run/roster.sock"}, server.Config{}, "", false},
		{"this machine, behind a proxy", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, server.Config{TrustedProxies: proxies}, "everyone whom the proxy in front of it lets through can read every user; serve with --tokens, unless the proxy lets in none but your own callers", false},
		{"this machine, behind a balancer", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, server.Config{ProxyProtocol: true, TLS: &tls.Config{}}, "everyone whom the proxy in front of it lets through", false},
		{"this machine, behind a proxy, with tokens", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, server.Config{TrustedProxies: proxies, Tokens: none}, "", false},
		{"every address", &net.TCPAddr{IP: net.IPv6unspecified}, server.Config{}, "everyone who can reach it can read every user, and everyone on the network path can read and change every call; serve with --tls-cert and --tls-key, and with --tokens or --tls-client-ca, or on localhost", false},
		{"one of the network", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, server.Config{}, "everyone who can reach it can read every user, and", false},
		{"with tokens alone", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, server.Config{Tokens: none}, "everyone on the network path can read the tokens and every call; serve with --tls-cert and --tls-key", false},
		{"with TLS alone", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, server.Config{TLS: &tls.Config{}}, "everyone who can reach it can read every user; serve with --tokens or --tls-client-ca", false},
		{"with both", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, server.Config{TLS: &tls.Config{}, Tokens: none}, "", false},
		{"with both, reads open as asked", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, server.Config{TLS: &tls.Config{}, Tokens: none, OpenReads: true}, "", false},
		{"with mutual TLS", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, server.Config{TLS: &tls.Config{}, ClientCertificates: true}, "", false},
		{"of a bridge alone", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, server.Config{WithoutDirectory: true}, "everyone who can reach it can make those calls of the bridged servers that change nothing, or are for anyone by --bridge-role, and everyone on", true},
		{"this machine, with a bridge, behind a proxy", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, server.Config{TrustedProxies: proxies}, "lets through can read every user, and make those calls of the bridged servers", true},
	} {
		var log bytes.Buffer
		test.config.Log = slog.New(slog.NewTextHandler(&log, nil))
		test.config.Local = loopback.Addr(test.address)
		warnIfOpen(test.config, test.address.String(), test.bridges)
		if got := log.String(); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: logged %q, want %q", test.name, got, test.want)
		} else if got != "" && (!strings.Contains(got, "level=WARN") || !strings.Contains(got, "address="+test.address.String())) {
			t.Errorf("%s: logged %q", test.name, got)
		}
		if local := test.want == "" && test.config.TLS == nil || strings.HasPrefix(test.name, "this machine"); test.config.Local != local {
			t.Errorf("%s: local %v", test.name, test.config.Local)
		}
	}
}

func TestServeRefusesOriginsThatAreNone(t *testing.T) {
	for origin, want := range map[string]string{
		"*":                           `--cors-origin "*": every page on the web could call, and read all users: name each origin`,
		"null":                        `--cors-origin "null": any page can have the origin null`,
		"https://a.example/":          `--cors-origin "https://a.example/": an origin ends with host and port: leave out "/"`,
		"https://a.example,b.example": `--cors-origin "b.example": want scheme://host`,
	} {
		if code, _, stderr := roster(t, "serve", "--cors-origin", origin); code != 2 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, stderr %q", origin, code, stderr)
		}
	}
}
