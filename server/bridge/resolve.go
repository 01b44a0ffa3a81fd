package bridge

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"
)

// An Endpoint is one URL of an upstream: one process, or as many as its host has addresses.
type Endpoint struct {
	host, port string
	tls        bool
}

// ParseEndpoint reads a URL such as http://localhost:50052 or https://jobs.example:443. It has no path,
// and no user.
func ParseEndpoint(text string) (Endpoint, error) {
	wrong := func(what string) (Endpoint, error) {
		return Endpoint{}, fmt.Errorf("%q is no URL of a gRPC server: %s, as in http://localhost:50052 or https://jobs.example:443", text, what)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || !strings.Contains(text, "://"):
		return wrong("it needs a scheme, a host and a port")
	case u.Scheme != "http" && u.Scheme != "https":
		return wrong("its scheme must be http or https")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return wrong("it may have a scheme, a host and a port, and nothing else")
	case u.Hostname() == "":
		return wrong("it has no host")
	}
	e := Endpoint{host: u.Hostname(), port: u.Port(), tls: u.Scheme == "https"}
	if e.port == "" {
		if e.port = "80"; e.tls {
			e.port = "443"
		}
	}
	if port, err := strconv.ParseUint(e.port, 10, 16); err != nil || port == 0 {
		return wrong("its port must be a number from 1 to 65535")
	}
	return e, nil
}

// String returns the URL.
func (e Endpoint) String() string {
	if e.tls {
		return "https://" + e.authority()
	}
	return "http://" + e.authority()
}

func (e Endpoint) authority() string { return net.JoinHostPort(e.host, e.port) }

// resolveEvery is how often the names of hosts are looked up again.
const resolveEvery = 10 * time.Second

// addresses looks up the hosts of an upstream, and tells grpc-go and the schema
// watcher of every change.
type addresses struct {
	endpoints []Endpoint
	loads     loads
	lookUp    func(ctx context.Context, host string) ([]string, error)

	mu       sync.Mutex
	known    []resolver.Address
	changed  chan struct{} // closed and replaced when known changes
	nudge    chan struct{}
	resolved bool
	failure  error
}

func newAddresses(endpoints []Endpoint) *addresses {
	return &addresses{
		endpoints: endpoints,
		lookUp:    net.DefaultResolver.LookupHost,
		changed:   make(chan struct{}),
		nudge:     make(chan struct{}, 1),
	}
}

// current returns the addresses of now, and a channel that is closed when they change.
func (a *addresses) current() (known []resolver.Address, changed <-chan struct{}, failure error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known, a.changed, a.failure
}

// run looks the hosts up, at once and then every resolveEvery, until ctx is done. IP addresses are
// looked up once.
func (a *addresses) run(ctx context.Context) {
	ticker := time.NewTicker(resolveEvery)
	defer ticker.Stop()
	for {
		a.resolve(ctx)
		if !slices.ContainsFunc(a.endpoints, func(e Endpoint) bool { return net.ParseIP(e.host) == nil }) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-a.nudge:
			// grpc-go asks whenever a connection fails: not more than once a second.
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
		}
	}
}

func (a *addresses) resolve(ctx context.Context) {
	var found []resolver.Address
	var failures []error
	for _, e := range a.endpoints {
		hosts := []string{e.host}
		if net.ParseIP(e.host) == nil {
			limited, cancel := context.WithTimeout(ctx, 5*time.Second)
			answer, err := a.lookUp(limited, e.host)
			cancel()
			if err != nil {
				failures = append(failures, err)
				found = append(found, a.before(e)...) // a name server that is down takes no address away
				continue
			}
			hosts = preferred(answer)
		}
		for _, host := range hosts {
			found = append(found, a.address(e, net.JoinHostPort(host, e.port)))
		}
	}
	slices.SortFunc(found, func(x, y resolver.Address) int { return cmp.Compare(x.Addr, y.Addr) })
	found = slices.CompactFunc(found, func(x, y resolver.Address) bool { return x.Addr == y.Addr })
	a.mu.Lock()
	defer a.mu.Unlock()
	same := a.resolved && slices.EqualFunc(found, a.known, func(x, y resolver.Address) bool { return x.Addr == y.Addr })
	a.failure = errors.Join(failures...)
	a.resolved = true
	if !same {
		a.loads.keep(found)
		a.known = found
		close(a.changed)
		a.changed = make(chan struct{})
	}
}

// preferred returns the IPv4 addresses of a host, or the others if it has none. A host that has both has
// two addresses for one process, which would be taken for two.
func preferred(hosts []string) []string {
	var v4 []string
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil && ip.To4() != nil {
			v4 = append(v4, host)
		}
	}
	if len(v4) > 0 {
		return v4
	}
	return hosts
}

type endpointKey struct{}

func (a *addresses) address(e Endpoint, address string) resolver.Address {
	return resolver.Address{
		Addr:       address,
		ServerName: e.host,
		Attributes: attributes.New(loadKey{}, a.loads.of(address)).WithValue(endpointKey{}, e),
	}
}

// before returns the addresses that an endpoint had at the last look-up that succeeded.
func (a *addresses) before(e Endpoint) []resolver.Address {
	a.mu.Lock()
	defer a.mu.Unlock()
	var known []resolver.Address
	for _, address := range a.known {
		if address.Attributes.Value(endpointKey{}) == e {
			known = append(known, address)
		}
	}
	return known
}

// scheme is that of the targets that the bridge gives to grpc-go.
const scheme = "roster-bridge"

// addresses is the resolver of one grpc.ClientConn.
var _ resolver.Builder = (*addresses)(nil)

// Scheme implements resolver.Builder.
func (a *addresses) Scheme() string { return scheme }

// Build implements resolver.Builder. It starts a goroutine that hands on every change.
func (a *addresses) Build(_ resolver.Target, client resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		for {
			known, changed, failure := a.current()
			switch {
			case len(known) > 0:
				_ = client.UpdateState(resolver.State{Addresses: known})
			case failure != nil:
				client.ReportError(failure)
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return &resolving{a, stop}, nil
}

type resolving struct {
	addresses *addresses
	stop      context.CancelFunc
}

// ResolveNow implements resolver.Resolver.
func (r *resolving) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case r.addresses.nudge <- struct{}{}:
	default:
	}
}

// Close implements resolver.Resolver.
func (r *resolving) Close() { r.stop() }

// usesTLS reports whether an upstream speaks TLS. All its endpoints must agree.
func usesTLS(endpoints []Endpoint) (bool, error) {
	for _, e := range endpoints {
		if e.tls != endpoints[0].tls {
			return false, fmt.Errorf("%v and %v are one upstream: use http or https for both", endpoints[0], e)
		}
	}
	return endpoints[0].tls, nil
}

// clientTLS completes the configuration of the connections to an upstream.
func clientTLS(config *tls.Config) *tls.Config {
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	return config
}
