// Package gate is what a request passes before its handler. Every gate is a file: origins, access,
// rate, shed, deadline, protocol, streams, body, budget. This one has their order.
//
// A gate decides by what it knows without the handler: who calls, from which page, how much, how
// long. It refuses in the protocol of the caller, or passes the request on. What a call answers is
// package service's matter, and what is true of a connection is package conn's.
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
	"time"

	"example.com/roster/server/drain"
	"example.com/roster/server/rpc"
)

// A Gate is one thing that every request passes.
type Gate struct {
	// Name is the file's name.
	Name string
	// Reasons are those for which the gate refuses.
	Reasons []rpc.Reason
	// Wrap puts the gate before next, which answers the calls of method. It returns next itself where
	// the gate has nothing to do, so that it costs nothing there.
	Wrap func(method *rpc.Method, next http.Handler) http.Handler
}

// Config has the configuration of each gate.
type Config struct {
	Origins OriginsConfig
	Access  AccessConfig
	Rate    RateConfig
	// MaxConcurrentCalls is how many unary calls are answered at a time.
	MaxConcurrentCalls int
	// MaxDeadline is how long a unary call may take, its body included; 0 or less is no bound.
	MaxDeadline time.Duration
	// StallTimeout is how long the body of a unary call may stand still.
	StallTimeout time.Duration
	// Drain tells when streams are to end.
	Drain *drain.State
	// Log gets a line for a caller that was refused, at a bounded rate.
	Log *slog.Logger
}

// A Chain is the gates of a port.
type Chain struct {
	gates   []Gate
	origins *origins
	budget  budget
}

// New returns the gates of a port, from the outside in.
//
// A gate stands before those that spend more on a request, and after those whose findings it needs:
//
//   - origins first, because a preflight carries no token, and because no other gate is to answer a
//     page that may not call at all;
//   - access before rate, because a rate belongs to an identity;
//   - rate before shed, so that one caller who calls too often does not use up what all share;
//   - shed before deadline: a call that is refused needs no timer;
//   - protocol before the gates that touch the body: whether there is a message in it is known then;
//   - streams before body: both bound it, but only unary messages have a size and an end;
//   - body before budget: the budget is charged what has arrived, and the body gate bounds how long
//     that takes.
func New(config Config) *Chain {
	refused := newRefusalLog(config.Log)
	rate := newRate(config.Rate)
	access := newAccess(config.Access, rate, refused)
	origins := newOrigins(config.Origins, refused)
	shed := newShed(config.MaxConcurrentCalls)
	streams := newStreams(config.Drain)
	budget := newBudget()
	return &Chain{origins: origins, budget: budget, gates: []Gate{
		{"origins", []rpc.Reason{rpc.ReasonOrigin}, origins.wrap},
		{"access", []rpc.Reason{rpc.ReasonUnauthenticated, rpc.ReasonPermissionDenied, rpc.ReasonResourceExhausted}, access.wrap},
		{"rate", []rpc.Reason{rpc.ReasonResourceExhausted}, rate.wrap},
		{"shed", []rpc.Reason{rpc.ReasonUnavailable}, shed.wrap},
		{"deadline", nil, deadline{config.MaxDeadline}.wrap},
		{"protocol", []rpc.Reason{rpc.ReasonMethod, rpc.ReasonContentType, rpc.ReasonUnimplemented}, wrapProtocol},
		{"streams", []rpc.Reason{rpc.ReasonResourceExhausted}, streams.wrap},
		{"body", nil, body{config.StallTimeout}.wrap},
		{"budget", []rpc.Reason{rpc.ReasonCanceled, rpc.ReasonDeadlineExceeded}, budget.wrap},
	}}
}

// Gates is the gates from the outside in, for those who document or count them.
func (c *Chain) Gates() []Gate { return c.gates }

// Wrap returns the handler of a method behind all gates.
func (c *Chain) Wrap(method *rpc.Method) http.Handler {
	handler := method.Handler
	for i := len(c.gates) - 1; i >= 0; i-- {
		handler = c.gates[i].Wrap(method, handler)
	}
	return handler
}

// WrapPage returns the handler of what is no procedure, such as the page, with the answers that
// browsers want before they show a reply to a page of another origin.
func (c *Chain) WrapPage(next http.Handler) http.Handler { return c.origins.share(next) }

// ConnContext is the context of a connection, made of ctx: the gates keep in it what the calls of one
// connection share. It is for http.Server.ConnContext.
func (c *Chain) ConnContext(ctx context.Context) context.Context { return c.budget.connContext(ctx) }
