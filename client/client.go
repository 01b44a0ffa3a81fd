// Package client calls MyService over gRPC, gRPC-Web or Connect, on Roster or on any other server
// of the contract, Python grpcio servers included.
//
//	c, err := client.New("http://localhost:50051", client.Config{})
//	if err != nil { … }                           // the address is malformed
//	defer c.Close()
//	if err := c.WaitReady(ctx); err != nil { … }  // says why the server does not answer
//	users, err := c.Users(ctx, []int32{1, 2})     // within ctx's deadline
//	for _, u := range users { fmt.Println(u.Name, u.Age, u.Email) }
//
// A context's deadline is sent with the call, and the server stops working on the call when the
// deadline passes. A look-up that fails with UNAVAILABLE is repeated within that deadline; no other
// failure is. Every failure is an *Error, which names the server, says what was wrong and what to
// do, and carries the code.
//
// Directory calls the rest of a Roster server, roster.v1: it reads, writes and watches users. A Copy
// keeps them in memory, and knows how old it may be.
//
// The package does not balance load or discover servers: a Client is for one address.
package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/client/internal/diagnose"
	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
	"example.com/roster/internal/inflate"
)

// User is one entry of the directory.
type User struct {
	Name string `json:"name"`
	// Age in years.
	Age   int32  `json:"age"`
	Email string `json:"email"`
}

// Client calls one server. All calls share one connection; more are opened only if there are more
// concurrent calls than the server allows on one. It connects at the first call, and again after a
// connection broke. It is safe for concurrent use.
type Client struct {
	target    target
	transport *http.Transport
	// authorization is the value of that header, empty if none is sent.
	authorization []string
	options       connect.ClientOption
	service       apipbconnect.MyServiceClient
	explainer     *diagnose.Explainer
	closed        atomic.Bool
}

// errClosed is the cause of calls made after Close.
var errClosed = errors.New("the client is closed")

// New makes a client of the server at baseURL: http://host:port for HTTP/2 without TLS,
// https://host:port for HTTP/2 with TLS; host:port alone means http. It does not connect, so its
// errors are about the address and the configuration only.
//
// It also takes these targets of gRPC: unix:PATH, unix:///PATH and unix-abstract:NAME for a Unix socket,
// dns:///host:port, ipv4:address:port and ipv6:[address]:port. Config.TLS decides whether these use
// TLS; the name in the certificate of a Unix socket's server is localhost.
//
// Calls to an https address go through the proxy that HTTPS_PROXY and NO_PROXY name. Calls to an
// http address use no proxy, since HTTP proxies do not forward HTTP/2.
func New(baseURL string, cfg Config) (*Client, error) {
	to, err := parseTarget(baseURL, cfg.TLS != nil)
	if err != nil {
		return nil, err
	}
	base := to.base
	if base.Scheme == "http" && cfg.TLS != nil {
		return nil, fmt.Errorf("server address %q: Config.TLS is set but the scheme is http; use https://", baseURL)
	}

	authorization, err := bearer(base, cfg)
	if err != nil {
		return nil, fmt.Errorf("server address %q: %w", baseURL, err)
	}

	options := []connect.ClientOption{
		connect.WithReadMaxBytes(MaxReplyBytes),
		compression(inflate.Deflate), compression(inflate.Gzip), // the last is preferred
	}
	switch cfg.Protocol {
	case GRPC:
		options = append(options, connect.WithGRPC())
	case GRPCWeb:
		options = append(options, connect.WithGRPCWeb())
	case Connect:
	default:
		return nil, fmt.Errorf("unknown %v: use GRPC, GRPCWeb or Connect", cfg.Protocol)
	}
	if cfg.JSON {
		options = append(options, connect.WithProtoJSON())
	}
	if cfg.Gzip {
		options = append(options, connect.WithSendGzip())
	}
	if len(cfg.Interceptors) > 0 {
		options = append(options, connect.WithInterceptors(cfg.Interceptors...))
	}

	c := &Client{
		target:        to,
		transport:     newTransport(to, cfg.TLS),
		authorization: authorization,
		options:       connect.WithClientOptions(options...),
	}
	c.service = apipbconnect.NewMyServiceClient(c.Endpoint())
	c.explainer = diagnose.New(diagnose.Config{
		Base: base, Socket: to.socket, Protocol: cfg.Protocol.String(), JSON: cfg.JSON, TLS: cfg.TLS, Transport: c.transport,
	})
	return c, nil
}

// Endpoint returns the arguments of the constructors that protoc-gen-connect-go generates, to call
// another service of the same server. Such calls use this Client's connection, protocol, token and
// limits, but not the diagnosis and the retries of Users; they do not fail after Close. A stream of
// more than MaxReplyBytes in all fails: for those of roster.v1 there is Directory.
//
//	users := apipbconnect.NewMyServiceClient(c.Endpoint())
func (c *Client) Endpoint() (connect.HTTPClient, string, connect.ClientOption) {
	return caller{transport: c.transport, authorization: c.authorization}, c.target.base.String(), c.options
}

// Users looks users up by id. They come in the order of ids, and once more for each time that an id
// is repeated. An unknown id is left out. A User does not contain its id, so to find out which ids
// are unknown, look them up one by one. The errors are of type *Error.
//
// A look-up that fails with UNAVAILABLE, which includes a refused connection, is repeated with
// exponential backoff, up to ctx's deadline or, if ctx has none, four more times. If the server
// said how long to wait (Error.RetryAfter), the next attempt waits that long. A failure that would
// be the same after any wait, such as a certificate that is not trusted, is not repeated. Without a
// deadline, a server that never answers is waited for indefinitely.
func (c *Client) Users(ctx context.Context, ids []int32) ([]User, error) {
	var users []User
	err := c.retry(ctx, "User", func(ctx context.Context) error {
		reply, err := c.service.User(ctx, &apipb.UserReq{UserIDs: ids})
		if err != nil {
			return err
		}
		users = make([]User, 0, len(reply.GetData()))
		for _, u := range reply.GetData() {
			users = append(users, User{Name: u.GetName(), Age: u.GetAge(), Email: u.GetEmail()})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return users, nil
}

// Health asks the server once whether it can answer look-ups; nil means that it can. The errors are
// of type *Error.
func (c *Client) Health(ctx context.Context) error {
	if err := c.attempt(ctx, ctx, "Health", c.health); err != nil {
		return err
	}
	return nil
}

func (c *Client) health(ctx context.Context) error {
	_, err := c.service.Health(ctx, &emptypb.Empty{})
	return err
}

// Close makes every later call fail. Calls that are running finish, and connections are closed as
// soon as they are idle.
func (c *Client) Close() {
	c.closed.Store(true)
	c.transport.CloseIdleConnections()
}
