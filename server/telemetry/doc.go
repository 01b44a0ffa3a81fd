// Package telemetry shows a port from outside: Prometheus metrics, an access
// log and OpenTelemetry traces. Each is a rpc.Observer, read from the record of
// a call when it has ended, and none knows of the others.
//
//	metrics := telemetry.NewMetrics()
//	log := telemetry.NewAccessLog(logger, telemetry.AccessLogConfig{Successes: 10})
//	config := server.Config{Directory: dir, Observers: []rpc.Observer{metrics, log}}
//	srv, err := server.New(config)
//	metrics.Read(telemetry.Sources{Directory: dir.Stats})
//	admin.Handle("/metrics", metrics.Handler())
//
// What it costs a call is a few atomic additions and one reading of the clock:
// no lock that calls share, no allocation, no look-up of labels. Everything
// else is read when somebody scrapes.
//
// Units are seconds and bytes, names those of Prometheus: roster_…, _total for
// what only rises. docs/operations.md has them all.
package telemetry
