// Package gate has the checks and limits that a request passes before its handler. Every gate is a
// file: forwarded, origins, access, rate, deadline, protocol, streams, body, shed, budget, get. This
// file has their order.
//
// A gate decides without the handler: by the caller's identity, the page that calls, the size of the
// request and the time that it takes. It refuses the request in the protocol of the caller or passes
// it on. Answering calls is the task of package service, and the limits of a connection are those of
// package conn.
//
//	chain := gate.New(gate.Config{MaxConcurrentCalls: 10_000, StallTimeout: 30 * time.Second})
//	for _, method := range table.Methods() {
//		handlers[method.Path] = chain.Wrap(method)
//	}
//
// All gates expect the record of the call in the context of the request (rpc.Of).
package gate

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"example.com/roster/server/drain"
	"example.com/roster/server/rpc"
)

// A Gate is one check or limit.
type Gate struct {
	// Name is the file's name.
	Name string
	// Reasons are all reasons for which the gate refuses a request.
	Reasons []rpc.Reason
	// Wrap returns a handler that applies the gate to the calls of method and passes them to next. It
	// returns next itself if the gate does not apply to the method, so that it costs nothing there.
	Wrap func(method *rpc.Method, next http.Handler) http.Handler
}

// Config has the configuration of each gate.
type Config struct {
	// TrustedProxies are the networks of the proxies that are believed when they name, in a header, the
	// client whose request they pass on.
	TrustedProxies []netip.Prefix

	Origins OriginsConfig
	Access  AccessConfig
	Rate    RateConfig
	// MaxConcurrentCalls is the maximum number of unary calls that are answered at a time.
	MaxConcurrentCalls int
	// MaxDeadline is how long a unary call may take, its body included; 0 or less is no bound.
	MaxDeadline time.Duration
	// StallTimeout is how long the body of a request that is one message may stall: less than 64 bytes
	// in that time is a stall.
	StallTimeout time.Duration
	// Drain is the state of the port: it ends streams when the port closes.
	Drain *drain.State
	// Log gets a line for each refused caller, at a bounded rate.
	Log *slog.Logger
}

// A Chain is the gates of a port.
type Chain struct {
	gates     []Gate
	forwarded *forwarded
	origins   *origins
	body      body
	budget    budget
}

// New returns the gates of a port, from the outside in. Their order is tested, with a reason for each
// place, in chain_test.go. In general a gate precedes those that spend more on a request, and follows
// those whose results it needs.
func New(config Config) *Chain {
	refused := newRefusalLog(config.Log)
	forwarded := &forwarded{config.TrustedProxies, refused}
	rate := newRate(config.Rate)
	access := newAccess(config.Access, rate, refused)
	origins := newOrigins(config.Origins, refused)
	body := newBody(config.StallTimeout)
	shed := newShed(config.MaxConcurrentCalls)
	streams := newStreams(config.Drain)
	budget := newBudget()
	return &Chain{forwarded: forwarded, origins: origins, body: body, budget: budget, gates: []Gate{
		{"forwarded", []rpc.Reason{rpc.ReasonForwarded}, forwarded.wrap},
		{"origins", []rpc.Reason{rpc.ReasonOrigin, rpc.ReasonPreflight}, origins.wrap},
		{"access", []rpc.Reason{rpc.ReasonUnauthenticated, rpc.ReasonPermissionDenied, rpc.ReasonResourceExhausted}, access.wrap},
		{"rate", []rpc.Reason{rpc.ReasonResourceExhausted}, rate.wrap},
		{"deadline", nil, deadline{config.MaxDeadline}.wrap},
		{"protocol", []rpc.Reason{rpc.ReasonMethod, rpc.ReasonContentType, rpc.ReasonInvalidArgument, rpc.ReasonUnimplemented}, wrapProtocol},
		{"streams", []rpc.Reason{rpc.ReasonResourceExhausted}, streams.wrap},
		{"body", []rpc.Reason{rpc.ReasonUnavailable}, body.wrap},
		{"shed", []rpc.Reason{rpc.ReasonUnavailable}, shed.wrap},
		{"budget", []rpc.Reason{rpc.ReasonCanceled, rpc.ReasonDeadlineExceeded}, budget.wrap},
		{"get", []rpc.Reason{rpc.ReasonContentType}, wrapGet},
	}}
}

// Gates returns the gates from the outside in, for documentation and metrics.
func (c *Chain) Gates() []Gate { return c.gates }

// Wrap returns the handler of a method behind all gates.
func (c *Chain) Wrap(method *rpc.Method) http.Handler {
	handler := method.Handler
	for i := len(c.gates) - 1; i >= 0; i-- {
		handler = c.gates[i].Wrap(method, handler)
	}
	return handler
}

// WrapPage returns a handler for requests that are no RPC, such as those of the page. It finds the
// client behind a trusted proxy, and adds the CORS headers for the origins that are allowed.
func (c *Chain) WrapPage(next http.Handler) http.Handler {
	return c.forwarded.pass(c.origins.share(next))
}

// ConnContext derives the context of a connection from ctx. It carries what the calls of the connection
// share, such as their budget. Use it as http.Server.ConnContext.
func (c *Chain) ConnContext(ctx context.Context) context.Context { return c.budget.connContext(ctx) }
