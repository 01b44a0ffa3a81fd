// Package python measures what an unchanged Python client sees: calls of two
// ids by grpcio, one after the other, from a process of its own.
package python

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"example.com/roster/bench/internal/peer"
	"example.com/roster/bench/internal/stats"
)

//go:embed client.py
var client []byte

// blocks is how often a round goes over the servers; within one, all are up.
const blocks = 10

// Sample is what one round saw of one server.
type Sample struct{ P50, P99 time.Duration }

// Peers are the servers that are called, the one to compare with first.
var Peers = []string{peer.GRPC, peer.Roster, peer.RosterStd, peer.Connect, peer.GRPCTuned, peer.Tonic, peer.Python}

// Measure makes that many calls of each server in every round. Generated is
// the folder with the contract's Python code.
func Measure(ctx context.Context, setup *peer.Setup, without map[string]string, generated string, rounds, calls int) (map[string][]Sample, error) {
	script := filepath.Join(setup.Temp, "client.py")
	if err := os.WriteFile(script, client, 0o600); err != nil {
		return nil, err
	}
	var names, addresses []string
	for _, name := range Peers {
		if without[name] != "" {
			continue
		}
		server, err := setup.Start(ctx, name, peer.Options{GC: peer.Equal})
		if err != nil {
			return nil, err
		}
		defer server.Stop()
		names, addresses = append(names, name), append(addresses, server.Addr)
	}
	results := make(map[string][]Sample)
	for range rounds {
		arguments := []string{script, generated, fmt.Sprint(blocks), fmt.Sprint(max(calls/blocks, 1))}
		cmd := exec.CommandContext(ctx, filepath.Join(setup.Python, "bin", "python"), append(arguments, addresses...)...)
		// grpcio would send even calls of 127.0.0.1 to a proxy.
		cmd.Env = append(os.Environ(), "http_proxy=", "HTTP_PROXY=", "grpc_proxy=")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("the Python client: %w\n%s", err, stderr.Bytes())
		}
		var times [][]int64
		if err := json.Unmarshal(out, &times); err != nil {
			return nil, fmt.Errorf("the Python client: %w", err)
		}
		for i, name := range names {
			results[name] = append(results[name], Sample{
				P50: time.Duration(stats.Percentile(times[i], 0.5)),
				P99: time.Duration(stats.Percentile(times[i], 0.99)),
			})
		}
	}
	return results, nil
}
