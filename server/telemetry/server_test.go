package telemetry

import (
	"testing"

	"example.com/roster/server"
	"example.com/roster/server/rpc/rpctest"
)

// NewServer is a port with config, and with routes besides its own.
func NewServer(t testing.TB, config server.Config, routes ...rpctest.Route) *server.Server {
	t.Helper()
	config.Mounts = rpctest.Mounts(t, routes...)
	srv, err := server.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return srv
}
