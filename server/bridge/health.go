package bridge

import (
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	_ "google.golang.org/grpc/health" // has the client follow the health of each process
	"google.golang.org/grpc/resolver"
)

// healthWait is how long a process that is connected may take to say whether it is serving. One that has
// not said it by then gets calls, like one that has no health service. grpc-go would wait for ever.
const healthWait = 5 * time.Second

// healthBuilder builds balancers whose connections are ready once their process has said that it serves, or
// has said nothing for healthWait.
type healthBuilder struct{ balancer.Builder }

// Build implements balancer.Builder.
func (b healthBuilder) Build(conn balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	h := &healthBalancer{}
	h.inner = b.Builder.Build(&healthConn{conn, h}, options)
	return h
}

// A healthBalancer is a balancer with a lock: grpc-go calls it from one goroutine, and timers do from others.
type healthBalancer struct {
	mu    sync.Mutex
	inner balancer.Balancer
}

// UpdateClientConnState implements balancer.Balancer.
func (h *healthBalancer) UpdateClientConnState(state balancer.ClientConnState) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.inner.UpdateClientConnState(state)
}

// ResolverError implements balancer.Balancer.
func (h *healthBalancer) ResolverError(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inner.ResolverError(err)
}

// UpdateSubConnState implements balancer.Balancer. It is not called: every connection has a listener.
func (h *healthBalancer) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle implements balancer.Balancer.
func (h *healthBalancer) ExitIdle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inner.ExitIdle()
}

// Close implements balancer.Balancer.
func (h *healthBalancer) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inner.Close()
}

// A healthConn has the state of new connections watched.
type healthConn struct {
	balancer.ClientConn
	balancer *healthBalancer
}

// NewSubConn implements balancer.ClientConn.
func (c *healthConn) NewSubConn(addresses []resolver.Address, options balancer.NewSubConnOptions) (balancer.SubConn, error) {
	w := &healthWatch{balancer: c.balancer, report: options.StateListener, load: loadOf(addresses[0])}
	options.HealthCheckEnabled = false // it would be followed without a limit
	options.StateListener = w.connection
	//lint:ignore SA1019 with the one address that the balancer below gives
	conn, err := c.ClientConn.NewSubConn(addresses, options)
	w.conn = conn
	return conn, err
}

// A healthWatch makes one state of those of a connection and of its process.
type healthWatch struct {
	balancer *healthBalancer
	conn     balancer.SubConn
	report   func(balancer.SubConnState)
	load     *load

	// Under the lock of balancer:
	refused   bool        // no connection could be made since the last one
	connected int         // how often it has been
	timer     *time.Timer // while the process has not said whether it serves
	assumed   bool        // it has not said it in time
}

// connection is told of every change of the connection.
func (w *healthWatch) connection(state balancer.SubConnState) {
	w.balancer.mu.Lock()
	defer w.balancer.mu.Unlock()
	w.settle()
	w.connected++
	if state.ConnectivityState != connectivity.Ready {
		w.refused = w.refused || state.ConnectivityState == connectivity.TransientFailure
		w.report(state)
		return
	}
	if w.refused { // it was not running, so this is another process
		w.refused = false
		w.load.forgive()
	}
	now := w.connected
	w.wait(now)
	w.conn.RegisterHealthListener(func(state balancer.SubConnState) { w.health(now, state) })
}

// health is told of every change of the process's health.
func (w *healthWatch) health(connected int, state balancer.SubConnState) {
	w.balancer.mu.Lock()
	defer w.balancer.mu.Unlock()
	if connected != w.connected {
		return
	}
	if state.ConnectivityState == connectivity.Connecting { // it is being asked
		if !w.assumed {
			w.wait(connected)
			w.report(state)
		}
		return
	}
	w.settle()
	w.report(state)
}

// wait takes the process for one that serves if it has not said anything in time.
func (w *healthWatch) wait(connected int) {
	if w.timer != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(healthWait, func() {
		w.balancer.mu.Lock()
		defer w.balancer.mu.Unlock()
		if connected == w.connected && w.timer == timer {
			w.settle()
			w.assumed = true
			w.report(balancer.SubConnState{ConnectivityState: connectivity.Ready})
		}
	})
	w.timer = timer
}

// settle ends the wait.
func (w *healthWatch) settle() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	w.assumed = false
}
