// Package telemetry makes a port observable: Prometheus metrics, an access log and OpenTelemetry
// traces. Each of them is an [rpc.Observer], which reads the record of a call when the call has
// ended, and each can be used without the others.
//
//	metrics := telemetry.NewMetrics()
//	log := telemetry.NewAccessLog(logger, telemetry.AccessLogConfig{Successes: 10})
//	config := server.Config{Directory: dir, Observers: []rpc.Observer{metrics, log}}
//	srv, err := server.New(config)
//	metrics.Read(telemetry.Sources{Directory: dir.Stats})
//	admin.Handle("/metrics", metrics.Handler())
//
// Metrics cost a call a few atomic additions and one reading of the clock: no lock that calls
// share, no allocation, no look-up of labels. Everything that is counted elsewhere is read at a
// scrape.
//
// Units are seconds and bytes. Names follow Prometheus: they begin with roster_, and those of
// counters end with _total. docs/operations.md lists all of them.
package telemetry
