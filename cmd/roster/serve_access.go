package main

import (
	"context"
	"log/slog"
	"net"
	"strings"

	"github.com/spf13/pflag"

	"example.com/roster/internal/loopback"
	"example.com/roster/server"
	"example.com/roster/server/auth"
	"example.com/roster/server/gate"
)

// accessFlags are the flags of roster serve that say who may call.
type accessFlags struct {
	tokens    string
	openReads bool
	origins   []string
}

func (f *accessFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.tokens, "tokens", "", "file of tokens, as roster token makes it: calls then need one; followed as it changes")
	flags.BoolVar(&f.openReads, "open-reads", false, "with --tokens, look-ups need no token: writes alone do")
	flags.StringSliceVar(&f.origins, "cors-origin", nil, "origin whose pages may call, such as https://app.example.com; repeat it, or separate them by commas")
}

func (f accessFlags) check() error {
	if f.openReads && f.tokens == "" {
		return usage("--open-reads goes with --tokens: without tokens everybody may read anyway")
	}
	for _, origin := range f.origins {
		if _, err := gate.ParseOrigin(origin); err != nil {
			return usage("--cors-origin %q: %w", origin, err)
		}
	}
	return nil
}

// open reads the token file, nil if there is to be none.
func (f accessFlags) open(log *slog.Logger) (*auth.Live, error) {
	if f.tokens == "" {
		return nil, nil
	}
	return auth.Open(f.tokens, log)
}

// apply has config follow the flags and the tokens, which are nil without
// --tokens, until ctx is done. The rest of config is as it will be served.
func (f accessFlags) apply(ctx context.Context, config *server.Config, tokens *auth.Live, listener net.Listener) {
	config.OpenReads = f.openReads
	config.Local = loopback.Addr(listener.Addr())
	for _, text := range f.origins {
		origin, _ := gate.ParseOrigin(text) // as checked
		config.Origins = append(config.Origins, origin)
	}
	if tokens != nil {
		config.Tokens = tokens.Set
		go tokens.Watch(ctx)
	}
	if open := whatIsOpen(*config); open != "" {
		config.Log.Warn("open to the network", "address", listener.Addr().String(), "what", open)
	}
}

// welcome is lines to paste, with the token that they need.
func (f accessFlags) welcome(lines string) string {
	if f.tokens == "" || f.openReads {
		return lines
	}
	file := "'" + strings.ReplaceAll(f.tokens, "'", `'\''`) + "'"
	return strings.NewReplacer(
		"  The page ", "  A token    export ROSTER_TOKEN=$(go run ./cmd/roster token create --role read --name me-$$ --tokens "+file+")\n  The page ",
		"-H 'content-type", `-H "authorization: Bearer $ROSTER_TOKEN" -H 'content-type`,
		"userIDs=[1, 2]))", "userIDs=[1, 2]), metadata=[('authorization', 'Bearer $ROSTER_TOKEN')])",
	).Replace(lines)
}

// whatIsOpen says what whoever reaches the port, or the way to it, can do;
// empty if that is nothing that was not asked for.
func whatIsOpen(config server.Config) string {
	guarded := config.Tokens != nil || config.ClientCertificates
	switch {
	case config.Local, config.TLS != nil && guarded:
		return ""
	case config.TLS == nil && !guarded:
		return "whoever reaches it can read every user, and whoever is on the way can read and change every call; " +
			"serve with --tls-cert and --tls-key, and with --tokens or --tls-client-ca, or on localhost"
	case config.TLS == nil:
		return "whoever is on the way to it can read the tokens and every call; serve with --tls-cert and --tls-key, " +
			"unless what is before it does"
	default:
		return "whoever reaches it can read every user; serve with --tokens or --tls-client-ca"
	}
}
