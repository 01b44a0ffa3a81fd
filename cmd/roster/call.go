package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"example.com/roster/client"
)

// callFlags are the flags of the commands that call a server.
type callFlags struct {
	server   string
	tls      callTLSFlags
	token    callTokenFlags
	protocol protocolFlag
	timeout  time.Duration
	output   outputFlag
}

// addTo defines the flags on a command, with their completions.
func (f *callFlags) addTo(command *cobra.Command) {
	f.output = outputTable
	flags := command.Flags()
	flags.StringVar(&f.server, "server", "http://localhost:50051", "server to call: http://host:port, or https:// for TLS")
	f.tls.register(flags)
	f.token.register(flags)
	flags.Var(&f.protocol, "protocol", "wire protocol: grpc, grpcweb or connect; a Python server speaks grpc alone")
	flags.DurationVar(&f.timeout, "timeout", time.Second, "how long the call may take in all")
	flags.Var(&f.output, "output", "how to print the answer: table or json")
	completeFlag(command, "protocol", client.GRPC.String(), client.GRPCWeb.String(), client.Connect.String())
	completeFlag(command, "output", string(outputTable), string(outputJSON))
}

// call makes one call with the flags' server, protocol and timeout.
func (f *callFlags) call(ctx context.Context, call func(context.Context, *client.Client) error) error {
	if f.timeout <= 0 {
		return usage("--timeout %v: must be more than 0", f.timeout)
	}
	tlsConfig, err := f.tls.config(f.server)
	if err != nil {
		return err
	}
	token, err := f.token.read()
	if err != nil {
		return err
	}
	c, err := client.New(f.server, client.Config{
		Protocol: client.Protocol(f.protocol), TLS: tlsConfig, Token: token, TokenInClear: f.token.inClear})
	if err != nil {
		return usage("--server: %w", err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	return call(ctx, c)
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

// outputFlag is how the answer is printed.
type outputFlag string

const (
	outputTable outputFlag = "table"
	outputJSON  outputFlag = "json"
)

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
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
