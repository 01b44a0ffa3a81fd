// Package peer names the servers that are compared, and runs one of them: a process of its own on a
// free port of 127.0.0.1, whose CPU time and memory are read from /proc. Linux only.
package peer

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// The peers.
const (
	Roster     = "roster"
	RosterStd  = "roster-std"
	RosterBare = "roster-bare"
	RosterFull = "roster-full"
	GRPC       = "grpc-go"
	GRPCTuned  = "grpc-go-tuned"
	Connect    = "connect-go"
	Gateway    = "grpc-gateway"
	Tonic      = "tonic"
	Python     = "python"
	Nginx      = "nginx"
)

// Paths are relative to the repository.
const (
	RosterPath = "bin/roster"
	PythonPath = "build/venv/newest" // a virtual environment with the Python peer

	rosterServe = RosterPath + " serve --sample --addr $addr --store $dir/roster.db"
	// With everything on that calls pass in production: metrics, an access log that goes to a file,
	// CORS, and traces, of which one in a hundred goes to a collector.
	rosterFull = rosterServe + " --admin-addr $admin --cors-origin https://app.example.com"
)

// peers says what the tables call a peer, and how it is started. What has no $tls cannot serve TLS.
var peers = map[string]struct{ title, command string }{
	Roster:     {"Roster as shipped", rosterServe + " $tls"},
	RosterStd:  {"Roster, `--http2 std`", rosterServe + " --http2 std $tls"},
	RosterBare: {"Roster, `--access-log off`", rosterServe + " --access-log off"},
	RosterFull: {"Roster with everything on", rosterFull},
	GRPC:       {"grpc-go", "build/bench/grpcgo --addr $addr $tls"},
	GRPCTuned:  {"grpc-go, tuned", "build/bench/grpcgo --addr $addr --tuned $tls"},
	Connect:    {"connect-go on net/http", "build/bench/connect --addr $addr $tls"},
	Gateway:    {"grpc-gateway", "build/bench/grpcgo --addr $addr --gateway"},
	Tonic:      {"tonic", "build/bench/cargo/release/roster-bench-tonic $addr examples/users.csv"},
	Python:     {"Python grpcio", PythonPath + "/bin/roster-peer serve --users examples/users.csv --address $addr"},
	Nginx:      {"nginx, a constant", "nginx -p $dir -e stderr -c $dir/nginx.conf"},

	Direct:     {"no proxy: the server itself", ""},
	Bridge:     {"Roster, bridge", bridgeCommand},
	BridgeAll:  {"Roster, bridge, all processors", bridgeCommand},
	NginxProxy: {"nginx `grpc_pass`", "nginx -p $dir -e stderr -c $dir/nginx.conf"},
	Envoy:      {"Envoy", envoyCommand},
	EnvoyJSON:  {"Envoy, `grpc_json_transcoder`", envoyCommand},
}

// streaming is Roster with the bench-only stream mounted.
var streaming = map[string]string{
	Roster:    "build/bench/roster --addr $addr --store $dir/roster.db",
	RosterStd: "build/bench/roster --addr $addr --store $dir/roster.db --http2 std",
}

// Title returns what the tables call a peer. What is not a peer is called by its name.
func Title(name string) string {
	if p, ok := peers[name]; ok {
		return p.title
	}
	return name
}

// Setup is what a run needs to start peers.
type Setup struct {
	// Temp is a folder for logs, stores and the like.
	Temp string
	// Without says why peers are left out. Init fills it.
	Without map[string]string

	// EnvoyPath is where the program Envoy is. Init fills it.
	EnvoyPath string

	collector string // the URL that accepts traces
}

// Init finds the peers that can be run, and starts a collector of traces that drops them.
func (s *Setup) Init() error {
	s.Without = make(map[string]string)
	for _, name := range []string{Tonic, Python, Nginx} {
		program := strings.Fields(peers[name].command)[0]
		if _, err := exec.LookPath(program); err != nil {
			s.Without[name] = "`" + filepath.Base(program) + "` is not installed"
		}
	}
	if s.Without[Nginx] != "" {
		s.Without[NginxProxy] = s.Without[Nginx]
	}
	var err error
	if s.EnvoyPath, err = findEnvoy(); err != nil {
		s.Without[Envoy], s.Without[EnvoyJSON] = err.Error(), err.Error()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.collector = "http://" + listener.Addr().String()
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	return nil
}

// Options are how one peer is started.
type Options struct {
	// EqualGC gives every server in Go GOGC=100 and as many processors as there are.
	EqualGC bool
	TLS     bool
	// Stream starts Roster with the bench-only stream mounted.
	Stream bool
	// Upstream is the address of the server that a proxy passes calls on to.
	Upstream string
	// Flags are appended to the command.
	Flags []string
}

// Start starts a peer and waits until it accepts connections.
func (s *Setup) Start(ctx context.Context, name string, options Options) (*Server, error) {
	dir, err := os.MkdirTemp(s.Temp, name+"-")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddr()
	if err != nil {
		return nil, err
	}
	values := strings.NewReplacer("$dir", dir, "$addr", addr, "$admin", admin, "$upstream", options.Upstream, "$envoy", s.EnvoyPath)
	command := peers[name].command
	if options.Stream && streaming[name] != "" {
		command = streaming[name]
	}
	if command == "" {
		return nil, fmt.Errorf("there is no peer %q", name)
	}
	fields := append(strings.Fields(command), options.Flags...)
	if i := slices.Index(fields, "$tls"); i >= 0 {
		fields = slices.Delete(fields, i, i+1)
		if options.TLS {
			if err := s.certificate(ctx); err != nil {
				return nil, err
			}
			fields = append(fields, "--tls-cert", filepath.Join(s.Temp, "cert.pem"), "--tls-key", filepath.Join(s.Temp, "key.pem"))
		}
	}
	for i, field := range fields {
		fields[i] = values.Replace(field)
	}
	var env []string
	if options.EqualGC {
		env = append(env, "GOGC=100", fmt.Sprintf("GOMAXPROCS=%d", runtime.NumCPU()))
	}
	switch name {
	case RosterFull:
		env = append(env, "OTEL_EXPORTER_OTLP_ENDPOINT="+s.collector,
			"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.01")
	case Bridge:
		env = append(env, "GOMAXPROCS=1")
	case Nginx:
		err = writeNginx(nginxConfig, dir, addr, "")
	case NginxProxy:
		err = writeNginx(nginxProxyConfig, dir, addr, options.Upstream)
	case Envoy, EnvoyJSON:
		err = writeEnvoy(dir, addr, options.Upstream, name == EnvoyJSON)
	}
	if err != nil {
		return nil, err
	}
	server, err := start(ctx, fields, env, filepath.Join(dir, "log"), addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return server, nil
}

// certificate makes a self-signed certificate for 127.0.0.1, once for all peers of a run.
func (s *Setup) certificate(ctx context.Context) error {
	key := filepath.Join(s.Temp, "key.pem")
	if _, err := os.Stat(key); err == nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
		"-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
		"-keyout", key, "-out", filepath.Join(s.Temp, "cert.pem")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("openssl req: %w\n%s", err, out)
	}
	return nil
}

// NginxReply is the constant that nginx answers: as many bytes as a gRPC reply of two users has.
var NginxReply = strings.Repeat("roster ", 14)[:96]

//go:embed nginx.conf
var nginxConfig string

func writeNginx(config, dir, addr, upstream string) error {
	// Only root may name a user, and must: the workers would run as one that cannot write to dir.
	as := ""
	if os.Geteuid() == 0 {
		as = "user root;"
	}
	text := replace(config, "$user", as, "$dir", dir, "$addr", addr, "$upstream", upstream,
		"$cores", fmt.Sprint(runtime.NumCPU()), "$reply", NginxReply)
	return os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(text), 0o600)
}

func replace(text string, oldnew ...string) string {
	return strings.NewReplacer(oldnew...).Replace(text)
}
