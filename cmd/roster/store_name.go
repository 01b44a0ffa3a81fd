package main

import (
	"net/url"
	"regexp"
	"strings"
	"unicode"
)

// redacted stands for a password that is not shown.
const redacted = "xxxxx"

var (
	// databaseScheme finds the beginning of a URL, also of one of PostgreSQL that lacks its slashes.
	databaseScheme = regexp.MustCompile(`^(?i)(sqlite:)?\s*([a-z][a-z0-9+.-]*://|postgres(ql)?:)/*`)
	// passwordSetting finds the password in a connection string such as "host=db password='a b'".
	passwordSetting = regexp.MustCompile(`(?i)(\b(?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'?|\S+)`)
)

// mayHaveSecret finds what looks like a password that is still shown: after a key that means one, or
// between a colon and an @. portless finds a colon in the authority of a URL that no port follows.
var (
	mayHaveSecret = regexp.MustCompile(`(?i)(pass\w*|pwd|secret|token)\w*["']?\s*[=:][^&\s]|:[^@/\s:]+@`)
	portless      = regexp.MustCompile(`://[^/?#]*:[^0-9/?#,@]`)
	ipv6          = regexp.MustCompile(`\[[0-9a-fA-F:.]*\]`)
)

// isDatabaseURL reports whether --store names a database server, by a URL or a connection string,
// and not a file.
func isDatabaseURL(name string) bool {
	path := strings.TrimPrefix(name, "sqlite:")
	return databaseScheme.MatchString(name) || passwordSetting.MatchString(name) || strings.Contains(path, "://") ||
		mayHaveSecret.MatchString(path)
}

// redactStore returns a --store, or a word that was perhaps meant to be one, without the passwords in
// it, so that it can be logged. Where the password ends is not always certain, and then it leaves out
// too much rather than too little.
func redactStore(name string) string {
	shown := redactKnownForms(name)
	scheme := databaseScheme.FindString(shown)
	rest := strings.TrimPrefix(ipv6.ReplaceAllString(strings.ReplaceAll(shown, redacted, ""), ""), "sqlite:")
	switch {
	case mayHaveSecret.MatchString(rest), portless.MatchString(rest), scheme == "" && strings.Contains(rest, "://"),
		strings.ContainsFunc(shown, unicode.IsControl):
		return scheme + redacted
	}
	return shown
}

// redactKnownForms takes the password out of a URL and of a connection string as libpq reads it.
func redactKnownForms(name string) string {
	scheme := databaseScheme.FindString(name)
	if scheme == "" {
		return passwordSetting.ReplaceAllString(name, "${1}"+redacted)
	}
	address, query, found := strings.Cut(name[len(scheme):], "?")
	colon, at := strings.Index(address, ":"), strings.LastIndex(address, "@")
	switch {
	case colon >= 0 && strings.Contains(query, "@"): // the question mark may be in the password
		return scheme + address[:colon+1] + redacted
	case colon >= 0 && colon < at: // there may be colons and an @ in the password
		address = address[:colon+1] + redacted + address[at:]
	}
	if !found {
		return scheme + address
	}
	settings := strings.Split(query, "&")
	for i, setting := range settings {
		key, _, _ := strings.Cut(setting, "=")
		if decoded, err := url.QueryUnescape(key); err != nil || strings.Contains(strings.ToLower(decoded), "pass") {
			settings[i] = key + "=" + redacted
		}
	}
	return scheme + address + "?" + strings.Join(settings, "&")
}
