package telemetry

import "testing"

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.99:1234":           "192.0.2.0/24",
		"127.0.0.1:80":              "127.0.0.1",
		"[::1]:80":                  "::1",
		"[::ffff:192.0.2.99]:80":    "192.0.2.0/24",
		"[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1::/48",
		"[fe80::1234:5678%eth0]:80": "fe80::/48",
		"@":                         "unix",
		"/run/roster.sock":          "unix",
		"someone.example.com:80":    "",
	} {
		if got := network(address); got != want {
			t.Errorf("network(%q) = %q, want %q", address, got, want)
		}
	}
}
