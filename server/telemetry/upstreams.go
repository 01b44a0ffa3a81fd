package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// An Upstream is another server whose services the port has (see package bridge), as it is at the moment
// of a scrape. Its name is one that the operator gave; nothing of what the upstream itself says becomes a
// label, except the names of the procedures that it answers, whose number is bounded (maxProcedures).
type Upstream struct {
	Name string
	Up   bool
	// Processes is how many processes are in each state.
	Processes map[string]int
	// Services is how many services are in each state.
	Services map[string]int
	// Ejections, Attempts and Failed count since the start.
	Ejections, Attempts, Failed uint64
	// SchemaAge is the time since the schema was last confirmed; negative if it need not be.
	SchemaAge time.Duration
}

var (
	descUpstreamUp        = desc("roster_bridge_up", "1 while at least one process of the upstream takes calls, otherwise 0.", "upstream")
	descUpstreamProcesses = desc("roster_bridge_processes", "Processes of the upstream, by state; a process may be in several.", "upstream", "state")
	descUpstreamServices  = desc("roster_bridge_services", "Services of the upstream, by what became of them.", "upstream", "state")
	descUpstreamEjections = desc("roster_bridge_ejections_total", "Times that a process of the upstream was left alone for a while, because several calls in a row had failed.", "upstream")
	descUpstreamAttempts  = desc("roster_bridge_attempts_total", "Calls handed to a process of the upstream. One that the process has not begun is handed to another, and counts again.", "upstream")
	descUpstreamFailed    = desc("roster_bridge_attempts_failed_total", "Those that ended with UNAVAILABLE, INTERNAL or UNKNOWN.", "upstream")
	descUpstreamSchemaAge = desc("roster_bridge_schema_age_seconds", "Time since a process of the upstream last told its services; missing if the schema was given, or never told.", "upstream")
)

var upstreamDescs = []*prometheus.Desc{
	descUpstreamUp, descUpstreamProcesses, descUpstreamServices, descUpstreamEjections, descUpstreamAttempts, descUpstreamFailed, descUpstreamSchemaAge,
}

func (s *scraped) collectUpstreams(gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string)) {
	for _, u := range s.sources.Upstreams() {
		gauge(descUpstreamUp, number(u.Up), u.Name)
		for state, n := range u.Processes {
			gauge(descUpstreamProcesses, float64(n), u.Name, state)
		}
		for state, n := range u.Services {
			gauge(descUpstreamServices, float64(n), u.Name, state)
		}
		counter(descUpstreamEjections, u.Ejections, u.Name)
		counter(descUpstreamAttempts, u.Attempts, u.Name)
		counter(descUpstreamFailed, u.Failed, u.Name)
		if u.SchemaAge >= 0 {
			gauge(descUpstreamSchemaAge, u.SchemaAge.Seconds(), u.Name)
		}
	}
}
