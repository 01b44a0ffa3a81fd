// Package client calls MyService, on Roster or on any other server of the
// contract, a Python grpcio one included, over gRPC, gRPC-Web or Connect.
//
//	c, err := client.New("http://localhost:50051", client.Config{})
//	if err != nil { … }                           // the address is malformed
//	defer c.Close()
//	if err := c.WaitReady(ctx); err != nil { … }  // says what is wrong there
//	users, err := c.Users(ctx, []int32{1, 2})     // within ctx's deadline
//	for _, u := range users { fmt.Println(u.Name, u.Age, u.Email) }
//
// A context's deadline travels with the call, and the server drops the work
// when it passes. A look-up that fails with UNAVAILABLE is tried again within
// that deadline; nothing else is tried twice. Every failure is an *Error, which
// names the server, says what was wrong and carries the code.
//
// The package does not balance load, cache, stream, or discover servers: a
// Client is one address. It does not write: the contract has no call for it.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"

	"connectrpc.com/connect"
	"golang.org/x/sync/singleflight"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/roster/gen/go/apipb"
	"example.com/roster/gen/go/apipb/apipbconnect"
)

// Config is how a Client speaks. Its zero value is gRPC, binary and
// uncompressed, as every server of the contract understands it.
type Config struct {
	// Protocol is the wire protocol. A Python gRPC server knows only GRPC.
	Protocol Protocol
	// JSON sends messages as JSON rather than as binary protobuf. A Python
	// gRPC server does not know it.
	JSON bool
	// Gzip compresses requests. Replies come compressed when the server
	// likes, whatever this says.
	Gzip bool
	// Interceptors run around every attempt, the first outermost, also around
	// the calls of Endpoint. One of otelconnect carries the trace of the
	// caller's context to the server (W3C Trace Context), and makes a span:
	//
	//	otelconnect.NewInterceptor(otelconnect.WithPropagator(propagation.TraceContext{}))
	Interceptors []connect.Interceptor
	// TLS is for https addresses: roots to trust, a client certificate. nil
	// means the system's roots and no client certificate. New copies it.
	TLS *tls.Config
	// Token is sent with every call, as the header "authorization: Bearer
	// TOKEN"; empty sends none. Whoever sees it can call in its name, so New
	// refuses it for a plain address of another machine.
	Token string
	// TokenInClear allows that: on a network that is encrypted by itself.
	TokenInClear bool
}

// User is one entry of the directory.
type User struct {
	Name string `json:"name"`
	// Age in years.
	Age   int32  `json:"age"`
	Email string `json:"email"`
}

// Client calls one server, on one connection that all calls share; more are
// opened only for more calls at a time than the server allows on one. It
// connects at the first call and again when a connection broke. It is safe for
// concurrent use.
type Client struct {
	base      *url.URL
	protocol  Protocol
	json      bool
	probeTLS  *tls.Config // nil for http
	transport *http.Transport
	// authorization is the header of that name, empty if none is sent.
	authorization []string
	options       connect.ClientOption
	service       apipbconnect.MyServiceClient
	probes        singleflight.Group
	closed        atomic.Bool
}

// errClosed is the cause of calls made after Close.
var errClosed = errors.New("the client is closed")

// New makes a client of the server at baseURL: http://host:port for HTTP/2
// without TLS, https://host:port with it; host:port alone means http. It does
// not connect, so the only errors are of the address and the configuration.
// Calls to an https address go through the proxy that HTTPS_PROXY and NO_PROXY
// name; plain ones through none, since HTTP proxies do not forward HTTP/2.
func New(baseURL string, cfg Config) (*Client, error) {
	base, err := parseBaseURL(baseURL)
	if err != nil {
		return nil, err
	}
	if base.Scheme == "http" && cfg.TLS != nil {
		return nil, fmt.Errorf("server address %q: Config.TLS is set but the address is plain; use https://", baseURL)
	}

	authorization, err := bearer(base, cfg)
	if err != nil {
		return nil, fmt.Errorf("server address %q: %w", baseURL, err)
	}

	options := []connect.ClientOption{
		connect.WithReadMaxBytes(MaxReplyBytes),
		connect.WithAcceptCompression("gzip", newReplyGzip, newRequestGzip),
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
		base:          base,
		protocol:      cfg.Protocol,
		json:          cfg.JSON,
		transport:     newTransport(base, cfg.TLS),
		authorization: authorization,
		options:       connect.WithClientOptions(options...),
	}
	c.service = apipbconnect.NewMyServiceClient(c.Endpoint())
	if base.Scheme == "https" {
		c.probeTLS = probeTLS(cfg.TLS)
	}
	return c, nil
}

// Endpoint is what the constructors that protoc-gen-connect-go generates take.
// Another service of the same server is called over this Client's connection
// with its protocol, token and limits, though without the diagnosis and the retries
// of Users; Close does not make those calls fail.
//
//	users := apipbconnect.NewMyServiceClient(c.Endpoint())
func (c *Client) Endpoint() (connect.HTTPClient, string, connect.ClientOption) {
	return caller{c.transport, c.authorization}, c.base.String(), c.options
}

// Users looks users up by id. They come in the order of ids, a repeated id
// each time; an unknown id is left out, and since a user does not carry its id,
// which ones were unknown shows only when they are asked for singly. The errors
// are of type *Error.
//
// A look-up that fails with UNAVAILABLE, a refused connection included, is
// repeated with exponential backoff, and not before the server asked for it
// (Error.RetryAfter): up to ctx's deadline, or four more times where ctx has
// none. It is not repeated when the diagnosis says that waiting
// cannot mend it, such as a certificate that is not trusted. Without a deadline
// a server that never answers is waited for indefinitely.
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

// Health asks once whether the server can answer; nil means that it can. The
// errors are of type *Error.
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

// Close lets calls in flight finish, closes the connections when they are
// idle, and makes every later call fail.
func (c *Client) Close() {
	c.closed.Store(true)
	c.transport.CloseIdleConnections()
}
