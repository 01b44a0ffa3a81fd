package bridge

import (
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/resolver"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// An upstream is one gRPC server, of one or more processes.
type upstream struct {
	config    *Config
	about     Upstream
	name      string // for logs and metrics
	log       *slog.Logger
	failures  *rate.Limiter // of log lines
	addresses *addresses
	conn      *grpc.ClientConn // for the calls, balanced over the processes
	tls       *tls.Config      // nil is cleartext
	gzip      atomic.Bool      // it has said that it accepts gzip
	memory    *memory
	changed   func() // called when what follow has learnt is new

	mu        sync.Mutex
	processes map[string]*learned // by address
	answers   bool                // at least one process takes calls
}

// learned is what is known of one process.
type learned struct {
	schema *schema // the last one
	err    error   // why there is none, or why the process does not answer
	up     bool
	told   time.Time // when the process last told it
}

const (
	// maxHeader bounds the metadata that an upstream may send with one reply, in bytes.
	maxHeader = 64 << 10
	// streamWindow is what an upstream may send of a stream that nobody reads, in bytes. While a message is
	// being read, grpc-go allows all of it.
	streamWindow = 64 << 10
	// relearnEvery is how often a process is asked again for its schema while its connection stands.
	relearnEvery = 30 * time.Second
	// relearnPause is the least time between two requests for the schema of one process.
	relearnPause = 2 * time.Second
)

func newUpstream(config *Config, about Upstream, changed func()) (*upstream, error) {
	u := &upstream{
		config:    config,
		about:     about,
		name:      about.String(),
		failures:  rate.NewLimiter(1, 5),
		addresses: newAddresses(about.Endpoints),
		memory:    newMemory(config.MaxMessage, config.MaxRequest),
		changed:   changed,
		processes: make(map[string]*learned),
	}
	u.log = config.Log.With("upstream", u.name)
	speaksTLS, err := usesTLS(about.Endpoints)
	if err != nil {
		return nil, err
	}
	if speaksTLS {
		u.tls = clientTLS(config.TLS)
	}
	u.conn, err = grpc.NewClient(scheme+":///"+u.authority(), append(append(u.dialOptions(), config.DialOptions...),
		grpc.WithTransportCredentials(tapped{u.credentials(), u.memory, nil}),
		grpc.WithResolvers(u.addresses),
		experimental.WithBufferPool(u.memory),
		//lint:ignore SA1019 encoding.Compressor, which is to replace it, is one for the whole program
		grpc.WithDecompressor(newUnpacker(u.memory, config.MaxMessage)),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(upstreamCodec{}),
			grpc.MaxCallRecvMsgSize(config.MaxMessage),
			grpc.MaxCallSendMsgSize(max(config.MaxMessage, config.MaxRequest)),
		),
	)...)
	return u, err
}

// authority is the host that calls name (:authority, RFC 9113 §8.3.1).
func (u *upstream) authority() string { return u.about.Endpoints[0].authority() }

// dialOptions are those of every connection to the upstream. There are no client pings: a Python server
// closes the connection of a client that pings more than every five minutes. Nor are there retries,
// except those of requests that the upstream has certainly not begun, which grpc-go makes by itself.
func (u *upstream) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(), // that of a DNS record
		grpc.WithMaxHeaderListSize(maxHeader),
		// grpc-go would raise these by itself, and ping for it.
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(1 << 20),
		grpc.WithUserAgent("roster"),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
}

// credentials are those of every connection to the upstream.
func (u *upstream) credentials() credentials.TransportCredentials {
	if u.tls == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(u.tls)
}

// failed logs why a call did not reach the upstream, at a bounded rate.
func (u *upstream) failed(path, why string) {
	if u.failures.Allow() {
		u.log.Warn("bridge: a call did not reach its upstream", "procedure", path, "error", why)
	}
}

// wanted reports whether a service of the upstream is to be mounted.
func (u *upstream) wanted(service protoreflect.FullName) bool {
	return u.about.Service == "" || u.about.Service == string(service)
}

// run follows the processes of the upstream, until ctx is done.
func (u *upstream) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { u.addresses.run(ctx) })
	running.Go(func() { u.watch(ctx) })
	running.Go(func() { u.memory.sweep(ctx) })
	if u.about.schema != nil {
		<-ctx.Done()
		return
	}
	following := make(map[string]context.CancelFunc)
	for {
		known, changed, _ := u.addresses.current()
		present := make(map[string]bool)
		for _, address := range known {
			present[address.Addr] = true
			if following[address.Addr] == nil {
				followed, stop := context.WithCancel(ctx)
				following[address.Addr] = stop
				running.Go(func() { u.follow(followed, address) })
			}
		}
		for address, stop := range following {
			if !present[address] {
				stop()
				delete(following, address)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			for _, stop := range following {
				stop()
			}
			return
		}
	}
}

// watch records whether any process takes calls. While a connection is made again, which is what happens
// when a server is restarted, the state before that stays.
func (u *upstream) watch(ctx context.Context) {
	for {
		state := u.conn.GetState()
		switch state {
		case connectivity.Idle:
			u.conn.Connect()
		case connectivity.Ready, connectivity.TransientFailure:
			u.mu.Lock()
			changed := u.answers != (state == connectivity.Ready)
			u.answers = state == connectivity.Ready
			u.mu.Unlock()
			if changed {
				u.log.Info("bridge: the upstream has changed state", "answers", state == connectivity.Ready)
				u.changed()
			}
		}
		if !u.conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// up reports whether any process takes calls.
func (u *upstream) up() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.answers
}

// known reports whether any process has told its schema.
func (u *upstream) known() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, l := range u.processes {
		if l.schema != nil {
			return true
		}
	}
	return false
}

// follow asks one process for its schema: whenever a connection to it has been made, since it may be
// another program by then, and from time to time.
func (u *upstream) follow(ctx context.Context, process resolver.Address) {
	address := process.Addr
	authority := u.authority()
	if e, ok := process.Attributes.Value(endpointKey{}).(Endpoint); ok {
		authority = e.authority() // the certificate is checked for its host, as that of calls is
	}
	memory := newMemory(maxSchemaBytes, maxSchemaBytes)
	var failure atomic.Pointer[error] // of the last attempt to connect
	conn, err := grpc.NewClient("passthrough:///"+address, append(u.dialOptions(),
		grpc.WithTransportCredentials(tapped{u.credentials(), memory, func(err error) { failure.Store(&err) }}),
		experimental.WithBufferPool(memory),
		grpc.WithAuthority(authority),
	)...)
	if err != nil {
		u.learnt(address, &learned{err: err})
		return
	}
	defer conn.Close()
	defer u.forget(address)
	for ctx.Err() == nil {
		if !ready(ctx, conn) {
			why := errNotRunning
			if found := failure.Swap(nil); found != nil {
				why = *found
			}
			u.learnt(address, &learned{err: why})
			// The state stays while grpc-go goes on connecting.
			pause, stop := context.WithTimeout(ctx, time.Second)
			conn.WaitForStateChange(pause, connectivity.TransientFailure)
			stop()
			continue
		}
		schema, err := learn(ctx, conn, memory, u.wanted)
		u.learnt(address, &learned{schema: schema, err: explain(err), up: true})
		pause, stop := context.WithTimeout(ctx, relearnPause)
		<-pause.Done()
		stop()
		// Until the connection ends, or for relearnEvery.
		limited, stop := context.WithTimeout(ctx, relearnEvery)
		conn.WaitForStateChange(limited, connectivity.Ready)
		stop()
	}
}

// ready connects, and reports whether that succeeded.
func ready(ctx context.Context, conn *grpc.ClientConn) bool {
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return true
		case connectivity.Idle:
			conn.Connect()
		case connectivity.TransientFailure:
			return false
		}
		if !conn.WaitForStateChange(ctx, state) {
			return false
		}
	}
}

// learnt records what one process said. A process that no longer answers keeps the schema that it had:
// its services stay mounted, and are UNAVAILABLE.
func (u *upstream) learnt(address string, l *learned) {
	u.mu.Lock()
	before := u.processes[address]
	if l.schema != nil {
		l.told = time.Now()
	} else if before != nil {
		l.schema, l.told = before.schema, before.told
	}
	u.processes[address] = l
	u.mu.Unlock()
	if l.err != nil && (before == nil || before.err == nil || before.err.Error() != l.err.Error()) {
		u.log.Warn("bridge: the schema of a process is not known", "process", address, "error", l.err.Error())
	}
	u.changed()
}

func (u *upstream) forget(address string) {
	u.mu.Lock()
	delete(u.processes, address)
	u.mu.Unlock()
	u.changed()
}

// An offer is what the processes of an upstream say of one service.
type offer struct {
	schema  *serviceSchema
	differ  string // what differs between the processes, in words; empty if nothing does
	between string // which processes those are, for the log: callers are told no addresses
	err     error  // why the service cannot be mounted
}

// offers returns what the upstream has at the moment. Processes that do not answer count only if none
// does.
func (u *upstream) offers() map[protoreflect.FullName]offer {
	if s := u.about.schema; s != nil {
		return offersOf(map[string]*schema{"": s})
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	up, all := make(map[string]*schema), make(map[string]*schema)
	for address, l := range u.processes {
		if l.schema == nil {
			continue
		}
		all[address] = l.schema
		if l.up && l.err == nil {
			up[address] = l.schema
		}
	}
	if len(up) == 0 {
		up = all
	}
	return offersOf(up)
}

// offersOf compares the schemas of processes, which are given by address. What it says does not depend on
// the order of the map: a text that changed would be a change of what is mounted.
func offersOf(schemas map[string]*schema) map[protoreflect.FullName]offer {
	offers := make(map[protoreflect.FullName]offer)
	first := make(map[protoreflect.FullName]string) // the process whose schema is offered
	addresses := slices.Sorted(maps.Keys(schemas))
	for _, address := range addresses {
		for name, service := range schemas[address].services {
			o, seen := offers[name]
			if !seen {
				offers[name], first[name] = offer{schema: service}, address
			} else if words := difference(o.schema, service); words != "" && o.differ == "" {
				o.differ, o.between = words, first[name]+" and "+address
				offers[name] = o
			}
		}
	}
	for _, address := range addresses {
		for name, o := range offers {
			if o.differ == "" && schemas[address].services[name] == nil {
				o.differ, o.between = "not every process has it", first[name]+" has it, "+address+" does not"
				offers[name] = o
			}
		}
	}
	for _, address := range addresses {
		for name, err := range schemas[address].problems {
			if _, seen := offers[name]; !seen {
				offers[name] = offer{err: err}
			}
		}
	}
	return offers
}
