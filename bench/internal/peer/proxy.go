package peer

import (
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/roster/bench/gen/apipb"
	"example.com/roster/bench/gen/tickerpb"
)

// The proxies, which pass calls on to Upstream. Each has one worker. Direct is the upstream itself,
// without a proxy.
const (
	Upstream   = GRPC
	Direct     = "direct"
	Bridge     = "bridge"
	BridgeAll  = "bridge-all-processors"
	NginxProxy = "nginx-proxy"
	Envoy      = "envoy"
	EnvoyJSON  = "envoy-json"
)

const (
	bridgeCommand = RosterPath + " bridge --addr $addr http://$upstream"
	envoyCommand  = "$envoy --concurrency 1 --disable-hot-restart --log-level warn -c $dir/envoy.yaml"
)

// envoyPrograms is where the wheel of bench/requirements-envoy.txt has the program.
const envoyPrograms = "build/bench/envoy/lib/python3*/site-packages/envoy/_bin/envoy"

// findEnvoy returns the path of the program, and an error if it is not installed.
func findEnvoy() (string, error) {
	found, err := filepath.Glob(envoyPrograms)
	if err == nil && len(found) == 0 {
		err = errors.New(envoyPrograms + " does not exist")
	}
	return slices.Concat(found, []string{""})[0], err
}

//go:embed nginx-proxy.conf
var nginxProxyConfig string

//go:embed envoy.yaml
var envoyConfig string

//go:embed envoy-transcoder.yaml
var envoyTranscoder string

// writeEnvoy writes the configuration of Envoy, and the descriptor set by which it translates JSON if it
// is to do that.
func writeEnvoy(dir, addr, upstream string, json bool) error {
	text := replace(envoyConfig, "$transcoder", "")
	if json {
		file := filepath.Join(dir, "schema.binpb")
		if err := writeSchema(file); err != nil {
			return err
		}
		text = replace(envoyConfig, "$transcoder", replace(envoyTranscoder, "$schema", strconv.Quote(file))) // YAML has such strings, too
	}
	for name, value := range map[string]string{"addr": addr, "upstream": upstream} {
		host, port, err := net.SplitHostPort(value)
		if err != nil {
			return err
		}
		text = replace(text, "$"+name+"_host", host, "$"+name+"_port", port)
	}
	return os.WriteFile(filepath.Join(dir, "envoy.yaml"), []byte(text), 0o600)
}

// writeSchema writes a descriptor set of what Upstream serves, as buf build makes one.
func writeSchema(file string) error {
	set := new(descriptorpb.FileDescriptorSet)
	seen := make(map[string]bool)
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i))
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	add(apipb.File_api_proto)
	add(tickerpb.File_ticker_proto)
	wire, err := proto.Marshal(set)
	if err != nil {
		return fmt.Errorf("encode the descriptor set: %w", err)
	}
	return os.WriteFile(file, wire, 0o600)
}
