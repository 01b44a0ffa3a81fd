package unixaddr

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for address, want := range map[string]string{
		"unix:/run/roster.sock":    "/run/roster.sock",
		"unix:///run/roster.sock":  "/run/roster.sock",
		"unix:roster.sock":         "roster.sock",
		"unix:a:b":                 "a:b",
		"unix-abstract:roster/one": "@roster/one",
	} {
		if got, found, err := Parse(address); got != want || !found || err != nil {
			t.Errorf("%s: %q, %v, %v; want %q", address, got, found, err, want)
		}
	}
	for address, want := range map[string]string{
		"unix:":                             "names no Unix socket",
		"unix://host/path":                  "has no host",
		"unix:@name":                        "unix-abstract:NAME",
		"unix-abstract:":                    "names no Unix socket",
		"unix:/" + strings.Repeat("a", 107): "at most 107",
	} {
		if _, found, err := Parse(address); !found || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %q", address, found, err, want)
		}
	}
	for _, address := range []string{"", "localhost:50051", "unixes:1", "http://unix:80"} {
		if _, found, err := Parse(address); found || err != nil {
			t.Errorf("%q: %v, %v", address, found, err)
		}
	}
}
