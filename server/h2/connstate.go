package h2

import "net/http"

// reportState has a worker call the hook http.Server.ConnState, in order and without delaying the
// connection. net/http itself reports only the first and the last state of an HTTP/2 connection.
// c.mu is held.
func (c *conn) reportState(state http.ConnState) {
	if c.srv.http.ConnState == nil || c.dead {
		return
	}
	c.states = append(c.states, state)
	if !c.reporting {
		c.reporting = true
		c.srv.workers.run((*stateReporter)(c))
	}
}

// reportClosed reports StateClosed for a connection that was handed over, after the states that are
// still to be reported. net/http's own report, made at the hand-over, was suppressed (see
// wrapHooks).
func (c *conn) reportClosed() {
	if c.srv.http.ConnState == nil {
		return
	}
	c.mu.Lock()
	c.states = append(c.states, http.StateClosed)
	reported := c.reporting
	c.reporting = true
	c.mu.Unlock()
	if !reported {
		(*stateReporter)(c).run()
	}
}

// stateReporter is the task of calling the hook.
type stateReporter conn

func (r *stateReporter) run() {
	c := (*conn)(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.states) > 0 && (!c.dead || c.handed) {
		state := c.states[0]
		c.states = c.states[1:]
		c.mu.Unlock()
		c.srv.http.ConnState(c.nc, state)
		c.mu.Lock()
	}
	c.reporting, c.states = false, nil
}
