package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/roster/gen/go/apipb"
	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/server/bridge"
	"example.com/roster/server/service"
)

// bridgeVariable has the servers of roster bridge if it has no arguments, and --bridge of roster serve.
const bridgeVariable = "ROSTER_BRIDGE"

func newBridgeCommand() *cobra.Command {
	f := serveFlags{bridgeOnly: true}
	command := &cobra.Command{
		Use:   "bridge [SERVICE=]URL[,URL…] …",
		Short: "Put other gRPC servers, such as Python ones, on one port for browsers, curl and gRPC",
		Long: `Bridge answers on one port for other gRPC servers: it speaks gRPC, gRPC-Web,
Connect and JSON to callers, and gRPC to the servers. It learns their services
and types from them by server reflection, so no code is generated and nothing in
them changes. A server without reflection needs --bridge-schema.

Each argument is a server; without arguments, ROSTER_BRIDGE has them, separated by
spaces. Several URLs, separated by commas, are processes of one server, and calls
are balanced over them. With SERVICE=, only that service of the server is served.

A method may change something unless its proto says NO_SIDE_EFFECTS, so it needs
the role write; without --tokens, such calls are taken from this machine alone.
--bridge-role sets the role of methods.

The port is there at once, and the services as soon as their servers answer: the
log says "bridge: mounted", or why not. A server that is down makes its own
services UNAVAILABLE and nothing else.`,
		Example: `  roster bridge http://localhost:50052
  roster bridge http://localhost:50052 --cors-origin 'http://localhost:*'
  roster bridge http://localhost:50052,http://localhost:50053 jobs.v1.JobService=https://jobs.example:443
  curl -H 'content-type: application/json' -d '{"name":"a"}' http://localhost:50051/jobs.v1.JobService/Submit`,
		Args: func(_ *cobra.Command, args []string) error {
			for _, arg := range args {
				if err := f.bridge.upstreams.Set(arg); err != nil {
					return usage("%w", err)
				}
			}
			if variable := os.Getenv(bridgeVariable); len(args) == 0 && variable != "" {
				if err := f.bridge.upstreams.Set(variable); err != nil {
					return usage("%s in the environment: %w", bridgeVariable, err)
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(f.bridge.upstreams) == 0 {
				return usage("no server is given: roster bridge http://localhost:50052, or set " + bridgeVariable)
			}
			return serveBy(cmd, f)
		},
	}
	addFlags(command, f.table())
	return command
}

// bridgeFlags are the flags of the bridge.
type bridgeFlags struct {
	upstreams      upstreamList
	schema         string
	ca, cert, key  string
	roles          roleList
	maxMessage     byteSize
	identityHeader string
}

// bridgeTable is the part of the table of roster serve that is about the bridge.
func (f *serveFlags) bridgeTable(group string) []flagRow {
	b := &f.bridge
	b.maxMessage = defaultBridgeMessage
	return []flagRow{
		{group, "bridge", parsed(&b.upstreams),
			"[SERVICE=]URL[,URL…] of a gRPC server whose services are served here too, learnt by reflection; several URLs are its processes. Repeat the flag for more servers (in ROSTER_BRIDGE, separate them by spaces)"},
		{group, "bridge-schema", into(&b.schema, "", f.checkBridgeSchema),
			"descriptor set, as buf build -o FILE writes it, for servers without reflection"},
		{group, "bridge-ca", into(&b.ca, "", f.checkBridgeCA),
			"PEM file with CA certificates that sign the certificates of https servers; by default those of this machine"},
		{group, "bridge-cert", into(&b.cert, "", f.checkBridgePair),
			"PEM file with the certificate to present to https servers"},
		{group, "bridge-key", into(&b.key, "", f.checkBridgePair),
			"PEM file with the private key of --bridge-cert"},
		{group, "bridge-role", parsed(&b.roles).checkedBy(f.checkBridgeRole),
			"SERVICE/METHOD=ROLE: who may call the methods of a bridged server, anyone, read or write; * stands for any characters. Repeat the flag: the first that matches counts"},
		{group, "bridge-max-message", parsed(&b.maxMessage).checkedBy(f.checkBridgeMaxMessage),
			"maximum size of a message to or from a bridged server, up to 256MiB"},
		{group, "bridge-identity-header", into(&b.identityHeader, "", f.checkIdentityHeader),
			"metadata key in which bridged servers are told the name of the authenticated caller; none if empty"},
	}
}

// needsBridge returns an error if a flag is given that does nothing without a bridged server.
func (f *serveFlags) needsBridge(flag string, given bool) error {
	if given && len(f.bridge.upstreams) == 0 && !f.bridgeOnly {
		return usage("--%s goes with --bridge: no other server is served here", flag)
	}
	return nil
}

// needsTLS returns an error if a flag is given that is for https servers, and there is none.
func (f *serveFlags) needsTLS(flag string, given bool) error {
	if err := f.needsBridge(flag, given); err != nil || !given || len(f.bridge.upstreams) == 0 {
		return err
	}
	for _, u := range f.bridge.upstreams {
		if u.TLS() {
			return nil
		}
	}
	return usage("--%s is for servers with TLS, and none has a URL that begins with https: %s", flag, f.bridge.upstreams.String())
}

func (f *serveFlags) checkBridgeCA(file string) error { return f.needsTLS("bridge-ca", file != "") }

func (f *serveFlags) checkBridgePair(string) error {
	if (f.bridge.cert == "") != (f.bridge.key == "") {
		return usage("--bridge-cert and --bridge-key go together")
	}
	return f.needsTLS("bridge-cert", f.bridge.cert != "")
}

func (f *serveFlags) checkBridgeSchema(file string) error {
	return f.needsBridge("bridge-schema", file != "")
}

func (f *serveFlags) checkBridgeRole() error {
	return f.needsBridge("bridge-role", len(f.bridge.roles) > 0)
}

func (f *serveFlags) checkBridgeMaxMessage() error {
	return f.needsBridge("bridge-max-message", f.bridge.maxMessage != defaultBridgeMessage)
}

func (f *serveFlags) checkIdentityHeader(key string) error {
	if err := f.needsBridge("bridge-identity-header", key != ""); err != nil {
		return err
	}
	if key != "" && f.tokens == "" && f.tlsClientCA == "" {
		return usage("--bridge-identity-header goes with --tokens or --tls-client-ca: without them no caller has a name")
	}
	if strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.HasSuffix(key, "-bin") {
		return errors.New("want a metadata key in lower case, such as x-caller, that does not end in -bin")
	}
	if bridge.ReservedMetadata(key) {
		return fmt.Errorf("%s is a field of HTTP or of gRPC itself: want a metadata key that is left to you, such as x-caller", key)
	}
	return nil
}

// upstreamList is the value of --bridge.
type upstreamList []bridge.Upstream

// String implements pflag.Value.
func (l *upstreamList) String() string {
	var texts []string
	for _, u := range *l {
		texts = append(texts, u.String())
	}
	return strings.Join(texts, " ")
}

// Set implements pflag.Value.
func (l *upstreamList) Set(text string) error {
	for text := range strings.FieldsSeq(text) {
		u, err := bridge.ParseUpstream(text)
		if err != nil {
			return err
		}
		*l = append(*l, u)
	}
	return nil
}

// Type implements pflag.Value.
func (l *upstreamList) Type() string { return "[SERVICE=]URL" }

// roleList is the value of --bridge-role.
type roleList []bridge.RoleRule

// String implements pflag.Value.
func (l *roleList) String() string {
	var texts []string
	for _, rule := range *l {
		texts = append(texts, rule.String())
	}
	return strings.Join(texts, ",")
}

// Set implements pflag.Value.
func (l *roleList) Set(text string) error {
	for text := range strings.SplitSeq(text, ",") {
		rule, err := bridge.ParseRoleRule(strings.TrimSpace(text))
		if err != nil {
			return err
		}
		*l = append(*l, rule)
	}
	return nil
}

// Type implements pflag.Value.
func (l *roleList) Type() string { return "SERVICE/METHOD=ROLE" }

// byteSize is a number of bytes, such as 4MiB or 4194304.
type byteSize int

const (
	defaultBridgeMessage = 4 << 20
	maxBridgeMessage     = 256 << 20
)

// String implements pflag.Value.
func (s *byteSize) String() string {
	switch n := int(*s); {
	case n > 0 && n%(1<<20) == 0:
		return strconv.Itoa(n>>20) + "MiB"
	case n > 0 && n%(1<<10) == 0:
		return strconv.Itoa(n>>10) + "KiB"
	default:
		return strconv.Itoa(n)
	}
}

// Set implements pflag.Value.
func (s *byteSize) Set(text string) error {
	number, unit := text, 1
	for suffix, size := range map[string]int{"KiB": 1 << 10, "MiB": 1 << 20} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			number, unit = rest, size
		}
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n == 0 || int(n) > maxBridgeMessage/unit {
		return errors.New("want a size from 1 to 256MiB, such as 65536, 64KiB or 64MiB")
	}
	*s = byteSize(int(n) * unit)
	return nil
}

// Type implements pflag.Value.
func (s *byteSize) Type() string { return "size" }

// newBridge returns the bridge that the flags ask for, nil if they ask for none.
func newBridge(f serveFlags, monitor *monitor, log *slog.Logger) (*bridge.Bridge, error) {
	b := f.bridge
	if len(b.upstreams) == 0 {
		return nil, nil
	}
	// grpc-go would write to standard error by itself. The bridge logs what its users need to know.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	config := bridge.Config{
		Upstreams: b.upstreams,
		Known: []protoreflect.ServiceDescriptor{
			apipb.File_api_proto.Services().ByName("MyService"),
			rosterv1.File_roster_v1_directory_proto.Services().ByName("DirectoryService"),
		},
		Roles:                 b.roles,
		MaxMessage:            int(b.maxMessage),
		IdentityHeader:        b.identityHeader,
		LeaveOutAuthorization: f.tokens != "",
		Options:               service.HandlerOptions(log),
		Log:                   log,
	}
	if monitor.traces != nil {
		// It puts the trace into the metadata of each call, in place of what the caller sent.
		config.DialOptions = append(config.DialOptions, grpc.WithStatsHandler(otelgrpc.NewClientHandler(
			otelgrpc.WithTracerProvider(monitor.traces.Provider()),
			otelgrpc.WithPropagators(monitor.traces.Propagator()),
			otelgrpc.WithMeterProvider(noop.NewMeterProvider()),
		)))
	}
	var err error
	if config.TLS, err = b.tls(); err != nil {
		return nil, err
	}
	if b.schema != "" {
		if config.Schema, err = readSchema(b.schema); err != nil {
			return nil, err
		}
	}
	return bridge.New(config)
}

// readSchema reads a descriptor set.
func readSchema(file string) (*descriptorpb.FileDescriptorSet, error) {
	wire, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--bridge-schema: %w", err)
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(wire, set); err != nil || len(set.GetFile()) == 0 {
		return nil, fmt.Errorf("--bridge-schema %s: this is no descriptor set, as buf build -o FILE.binpb or protoc --include_imports -o FILE writes it", file)
	}
	return set, nil
}

// tls returns the TLS of connections to https servers.
func (b bridgeFlags) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if b.ca != "" {
		pem, err := os.ReadFile(b.ca)
		if err != nil {
			return nil, fmt.Errorf("--bridge-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--bridge-ca %s: there is no certificate in it", b.ca)
		}
	}
	if b.cert != "" {
		pair, err := tls.LoadX509KeyPair(b.cert, b.key)
		if err != nil {
			return nil, fmt.Errorf("--bridge-cert %s and --bridge-key %s: %w", b.cert, b.key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// elsewhere returns the services of Roster's own that bridged servers answer.
func (b bridgeFlags) elsewhere() []string {
	var names []string
	for _, u := range b.upstreams {
		if u.Service != "" {
			names = append(names, u.Service)
		}
	}
	return names
}

// startBridge follows the bridged servers until stop is called.
func startBridge(ctx context.Context, b *bridge.Bridge, port bridge.Port) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // running calls need it until the end of the drain
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx, port)
	}()
	return func() {
		cancel()
		<-done
	}
}
