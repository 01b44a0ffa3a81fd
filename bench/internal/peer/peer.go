// Package peer names the servers that are compared, and starts one of them: a
// process of its own on a free port of 127.0.0.1.
package peer

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"example.com/roster/bench/internal/process"
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

// Titles is what the tables call the peers.
var titles = map[string]string{
	Roster:     "Roster as shipped",
	RosterStd:  "Roster, `--http2 std`",
	RosterBare: "Roster, `--access-log off`",
	RosterFull: "Roster with everything on",
	GRPC:       "grpc-go",
	GRPCTuned:  "grpc-go, tuned",
	Connect:    "connect-go on net/http",
	Gateway:    "grpc-gateway",
	Tonic:      "tonic",
	Python:     "Python grpcio",
	Nginx:      "nginx, a constant",
}

// Title is what the tables call a peer.
func Title(name string) string { return titles[name] }

// GC says what a Go server is told about its memory and processors.
type GC string

const (
	// Equal gives every Go server GOGC=100 and as many processors as there are.
	Equal GC = "equal"
	// Default tells them nothing.
	Default GC = "default"
)

// Setup says where the programs are, and has what a run needs on disk.
type Setup struct {
	// Peers is the folder of the peers written in Go.
	Peers string
	// Roster is the real binary.
	Roster string
	// Tonic is the tonic peer, Python the folder of a virtual environment with
	// the Python peer; a path that does not exist leaves them out.
	Tonic, Python string
	// Users is examples/users.csv.
	Users string
	// Temp is a folder for logs, stores and the like.
	Temp string

	help      string // of `roster serve`
	collector string // URL of what takes traces, once somebody sends some
}

// Init finds what there is, and returns why peers are left out.
func (s *Setup) Init() (without map[string]string, err error) {
	help, err := exec.Command(s.Roster, "serve", "--help").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s serve --help: %w\n%s", s.Roster, err, help)
	}
	s.help = string(help)
	without = make(map[string]string)
	if !s.HasFlag("--http2") {
		without[RosterStd] = "this `roster serve` has no --http2: Roster as shipped is on net/http"
	}
	if !s.HasFlag("--access-log") {
		without[RosterBare] = "this `roster serve` has no --access-log"
		without[RosterFull] = without[RosterBare]
	}
	if _, err := os.Stat(s.Tonic); err != nil {
		without[Tonic] = "no cargo to build it with"
	}
	if _, err := os.Stat(s.Python); err != nil {
		without[Python] = "no virtual environment with it"
	}
	if _, err := nginxPath(); err != nil {
		without[Nginx] = "nginx is not installed"
	}
	return without, nil
}

// HasFlag tells whether `roster serve` has a flag.
func (s *Setup) HasFlag(name string) bool { return strings.Contains(s.help, name+" ") }

// Options are how one peer is started.
type Options struct {
	GC  GC
	TLS bool
	// Stream starts Roster with the bench-only stream mounted.
	Stream bool
	// Flags are more flags of `roster serve`, for Roster as shipped.
	Flags []string
}

// Running is a peer that listens.
type Running struct {
	*process.Server
	Name, Addr string
	TLS        bool
}

// URL is where to call a method of the contract.
func (r *Running) URL(path string) string {
	if r.TLS {
		return "https://" + r.Addr + path
	}
	return "http://" + r.Addr + path
}

// Start starts a peer.
func (s *Setup) Start(ctx context.Context, name string, options Options) (*Running, error) {
	addr, err := process.FreeAddr()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.Temp, name+"-")
	if err != nil {
		return nil, err
	}
	command, err := s.command(name, addr, dir, options)
	if err != nil {
		return nil, err
	}
	command.Log = filepath.Join(dir, "log")
	if options.GC == Equal {
		command.Env = append(command.Env, "GOGC=100", fmt.Sprintf("GOMAXPROCS=%d", runtime.NumCPU()))
	}
	server, err := process.Start(ctx, command, addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Running{Server: server, Name: name, Addr: addr, TLS: options.TLS}, nil
}

func (s *Setup) command(name, addr, dir string, options Options) (process.Command, error) {
	var tls []string
	if options.TLS {
		cert, key, err := s.certificate()
		if err != nil {
			return process.Command{}, err
		}
		tls = []string{"--tls-cert", cert, "--tls-key", key}
	}
	store := filepath.Join(dir, "roster.db")
	inGo := func(program string, arguments ...string) process.Command {
		return process.Command{
			Path: filepath.Join(s.Peers, program),
			Args: append(append([]string{"--addr", addr}, arguments...), tls...),
		}
	}
	switch name {
	case Roster, RosterStd:
		engine := []string{}
		if name == RosterStd {
			engine = []string{"--http2", "std"}
		}
		if options.Stream {
			return inGo("roster", append(engine, "--store", store)...), nil
		}
		arguments := append([]string{"serve", "--addr", addr, "--store", store, "--sample"}, engine...)
		arguments = append(arguments, options.Flags...)
		return process.Command{Path: s.Roster, Args: append(arguments, tls...)}, nil
	case RosterBare:
		arguments := []string{"serve", "--addr", addr, "--store", store, "--sample", "--access-log", "off"}
		return process.Command{Path: s.Roster, Args: append(arguments, tls...)}, nil
	case RosterFull:
		command, err := s.full(addr, store)
		command.Args = append(command.Args, tls...)
		return command, err
	case GRPC:
		return inGo("grpcgo"), nil
	case GRPCTuned:
		return inGo("grpcgo", "--tuned"), nil
	case Connect:
		return inGo("connect"), nil
	case Gateway:
		return inGo("gateway"), nil
	case Tonic:
		return process.Command{Path: s.Tonic, Args: []string{addr, s.Users}}, nil
	case Python:
		return process.Command{
			Path: filepath.Join(s.Python, "bin", "roster-peer"),
			Args: []string{"serve", "--users", s.Users, "--address", addr},
		}, nil
	case Nginx:
		return s.nginx(addr, dir)
	}
	return process.Command{}, fmt.Errorf("there is no peer %q", name)
}
