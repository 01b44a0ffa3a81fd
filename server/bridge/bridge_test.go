package bridge_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
	"example.com/roster/server"
	"example.com/roster/server/bridge"
	"example.com/roster/server/service"
)

func TestTrial(t *testing.T) {
	py := filepath.Join("..", "..", "build", "venv", "newest", "bin", "python")
	cmd := exec.Command(py, "-c", `
import grpc, sys, time
from concurrent import futures
from grpc_reflection.v1alpha import reflection
from google.protobuf import descriptor_pb2, descriptor_pool
`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Log(string(out))
	}
	_ = py
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	up, err := bridge.ParseUpstream("http://127.0.0.1:50952")
	if err != nil {
		t.Fatal(err)
	}
	b, err := bridge.New(bridge.Config{Upstreams: []bridge.Upstream{up}, Log: log, Options: service.HandlerOptions(log)})
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := directory.New(t.Context(), store, directory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(server.Config{Directory: dir, Log: log, Local: true})
	if err != nil {
		t.Fatal(err)
	}
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go srv.Serve(ctx, l)
	go b.Run(ctx, srv.Mount)
	time.Sleep(2 * time.Second)
	resp, err := http.Post("http://"+l.Addr().String()+"/jobs.v1.JobService/Submit", "application/json", strings.NewReader(`{"name":"a","steps":2}`))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	t.Log(resp.Status, string(bytes.TrimSpace(body)))
}
