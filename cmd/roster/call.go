package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"example.com/roster/client"
	"example.com/roster/internal/printable"
	"example.com/roster/server/tlsfile"
)

// callFlags are the values of the flags of the commands that call a server.
type callFlags struct {
	server        string
	protocol      protocolFlag
	timeout       time.Duration
	output        outputFlag
	ca, cert, key string
	token         string
	tokenInClear  bool
}

// table returns the flags of a command that calls a server.
func (f *callFlags) table() []flagRow {
	const (
		call   = "Call"
		tls    = "TLS"
		access = "Access"
	)
	f.output = outputTable
	return []flagRow{
		{call, "server", into(&f.server, "http://localhost:50051", nil),
			"server to call: http://host:port, https:// for TLS, or unix:PATH for a Unix socket"},
		{call, "protocol", parsed(&f.protocol).completedBy(client.GRPC.String(), client.GRPCWeb.String(), client.Connect.String()),
			"protocol to call it by: grpc, grpcweb or connect; a Python server speaks only grpc"},
		{call, "timeout", into(&f.timeout, time.Second, positive),
			"how long the call may take in all"},
		{call, "output", parsed(&f.output).completedBy(outputFormats...),
			"how to print the answer: table or json"},

		{tls, "ca", into(&f.ca, "", f.checkTLS),
			"PEM file with the CA certificates to trust, instead of those of this machine"},
		{tls, "cert", into(&f.cert, "", f.checkTLS),
			"PEM file with the certificate to present to a server that asks for one"},
		{tls, "key", into(&f.key, "", f.checkTLS),
			"PEM file with the private key of --cert"},

		{access, "token", into(&f.token, "", nil),
			"token to send, or @FILE to read it from; in ROSTER_TOKEN it does not show in the list of processes"},
		{access, "token-in-clear", into(&f.tokenInClear, false, nil),
			"send the token without TLS to another machine: for a network that is itself encrypted"},
	}
}

func (f *callFlags) checkTLS(string) error {
	switch {
	case (f.cert == "") != (f.key == ""):
		return usage("--cert and --key go together")
	case (f.ca != "" || f.cert != "") && strings.HasPrefix(f.server, "http://"),
		(f.ca != "" || f.cert != "") && !strings.Contains(f.server, "://") && !grpcTarget.MatchString(f.server):
		return usage("--ca, --cert and --key are for TLS, but --server %s is called without: use https://", f.server)
	}
	return nil
}

// grpcTarget finds a server that is written as gRPC does, where nothing but --ca asks for TLS.
var grpcTarget = regexp.MustCompile(`^(unix|unix-abstract|dns|ipv4|ipv6):\D`)

// call makes one call as the flags say.
func (f *callFlags) call(ctx context.Context, call func(context.Context, *client.Client) error) error {
	return f.connect(func(c *client.Client) error {
		ctx, cancel := context.WithTimeout(ctx, f.timeout)
		defer cancel()
		return call(ctx, c)
	})
}

// connect makes any number of calls, which have deadlines of their own or none.
func (f *callFlags) connect(calls func(*client.Client) error) error {
	tlsConfig, err := f.tlsConfig()
	if err != nil {
		return err
	}
	token, err := f.readToken()
	if err != nil {
		return err
	}
	c, err := client.New(f.server, client.Config{
		Protocol: client.Protocol(f.protocol), TLS: tlsConfig, Token: token, TokenInClear: f.tokenInClear})
	if err != nil {
		return usage("--server: %w", err)
	}
	defer c.Close()
	return calls(c)
}

// withoutFlags returns the rows of a table but for those of some flags.
func withoutFlags(table []flagRow, names ...string) []flagRow {
	return slices.DeleteFunc(table, func(row flagRow) bool { return slices.Contains(names, row.name) })
}

// tlsConfig returns what the client trusts and presents, nil if no flag says so.
func (f *callFlags) tlsConfig() (*tls.Config, error) {
	if f.ca == "" && f.cert == "" {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		roots, err := tlsfile.Pool(f.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		config.RootCAs = roots
	}
	if f.cert != "" {
		pair, err := tlsfile.Pair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %w", err)
		}
		// Presented whichever CAs the server says it accepts: the server then says what is wrong
		// with this certificate, rather than that there is none.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return config, nil
}

// readToken returns the token, empty if there is none. Its errors do not quote it.
func (f *callFlags) readToken() (string, error) {
	name, isFile := strings.CutPrefix(f.token, "@")
	if !isFile {
		return f.token, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("--token: %w", err)
	}
	defer file.Close()
	const maxHeader = 16 << 10 // bytes that a server takes
	content, err := io.ReadAll(io.LimitReader(file, maxHeader))
	if err != nil {
		return "", fmt.Errorf("--token: %w", err)
	}
	token := string(bytes.TrimSpace(content))
	if token == "" {
		return "", fmt.Errorf("--token: the file %s is empty", name)
	}
	return token, nil
}

// protocolFlag is a client.Protocol on the command line.
type protocolFlag client.Protocol

func (p *protocolFlag) String() string { return client.Protocol(*p).String() }
func (p *protocolFlag) Type() string   { return "protocol" }
func (p *protocolFlag) Set(value string) error {
	parsed, err := client.ParseProtocol(value)
	if err != nil {
		return err
	}
	*p = protocolFlag(parsed)
	return nil
}

// outputFlag is the format in which a command prints its result.
type outputFlag string

const (
	outputTable outputFlag = "table"
	outputJSON  outputFlag = "json"
)

var outputFormats = []string{string(outputTable), string(outputJSON)}

func (o *outputFlag) String() string { return string(*o) }
func (o *outputFlag) Type() string   { return "format" }
func (o *outputFlag) Set(value string) error {
	switch format := outputFlag(value); format {
	case outputTable, outputJSON:
		*o = format
		return nil
	default:
		return fmt.Errorf("unknown format %q: use table or json", value)
	}
}

// printJSON writes v for programs to read, indented for people.
func printJSON(w io.Writer, v any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(printable.JSON(text.Bytes()))
	return err
}
