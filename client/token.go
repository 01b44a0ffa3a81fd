package client

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

// bearer is the Authorization header for a configuration (RFC 6750 §2.1),
// empty if there is no token. Its errors do not have the token.
func bearer(base *url.URL, cfg Config) ([]string, error) {
	switch {
	case cfg.Token == "":
		return nil, nil
	case strings.Trim(cfg.Token, tokenCharacters) != "":
		return nil, errors.New("the token has a character that no token has: a space, a line's end or a quotation mark, perhaps")
	case base.Scheme == "http" && !isLoopback(base.Hostname()) && !cfg.TokenInClear:
		return nil, errors.New("the token would cross the network in the clear: use https://, " +
			"or say that the network is encrypted by itself (Config.TokenInClear, --token-in-clear)")
	}
	return []string{"Bearer " + cfg.Token}, nil
}

const tokenCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/="

// isLoopback tells whether a host is this machine by its name or number.
func isLoopback(host string) bool {
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}
