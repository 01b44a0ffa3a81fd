package measure

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"example.com/roster/bench/internal/peer"
)

//go:embed client.py
var client []byte

// blocks is how often a round of the Python client goes over the servers, all of which are up.
const blocks = 10

// python measures what an unchanged Python client sees: calls of two ids by grpcio, one after the
// other, from a process of its own.
func python(ctx context.Context, r *Run, c Case) map[string]Sample {
	script := filepath.Join(r.Setup.Temp, "client.py")
	arguments := []string{script, "gen/python", fmt.Sprint(blocks), fmt.Sprint(max(r.PythonCalls/blocks, 1))}
	for _, name := range c.Peers {
		server, err := r.Setup.Start(ctx, name, peer.Options{EqualGC: true})
		if err != nil {
			r.fail(c, name, err)
			return nil
		}
		defer server.Stop()
		arguments = append(arguments, server.Addr)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(peer.PythonPath, "bin", "python"), arguments...)
	cmd.Env = peer.CleanEnv() // grpcio would send even calls of 127.0.0.1 to a proxy
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := []byte(nil), os.WriteFile(script, client, 0o600)
	if err == nil {
		out, err = cmd.Output()
	}
	var times [][]time.Duration
	if err := errors.Join(err, json.Unmarshal(out, &times)); err != nil {
		r.fail(c, peer.Python, fmt.Errorf("the Python client: %w\n%s", err, stderr.Bytes()))
		return nil
	}
	samples := make(map[string]Sample)
	for i, name := range c.Peers {
		samples[name] = Sample{P50: Percentile(times[i], 0.5).Seconds(), P99: Percentile(times[i], 0.99).Seconds()}
	}
	return samples
}
