// Package bridge mounts the services of other gRPC servers, such as Python ones, on the port: callers
// reach them by gRPC, gRPC-Web, Connect and JSON, and the servers see gRPC calls. It needs no generated
// code. The types come from the server's own reflection or from a descriptor set.
//
//	b, err := bridge.New(bridge.Config{Upstreams: []bridge.Upstream{{Endpoints: endpoints}}, Log: log})
//	if err != nil {
//		return err
//	}
//	go b.Run(ctx, srv) // mounts the services, and mounts them again when they change
//
// Each method has one handler, made by Connect's own constructors with a message type that is nothing
// but bytes. So the protocols, the envelopes, compression and errors are Connect's, and the bytes of a
// message are passed on undecoded, except for callers that speak JSON. Only the plainest calls of gRPC are
// answered without it (direct.go). The upstream side is grpc-go's client, which brings connections,
// balancing and health checking.
//
// The files: bridge.go (what is mounted), upstream.go (one upstream and what its processes say),
// call.go (one call), direct.go (a plain call without Connect), memory.go, held.go, frames.go, requests.go,
// unpack.go and replysize.go (how much memory calls may take), message.go (bytes and JSON), estimate.go (how
// large a message is in JSON), metadata.go (which metadata passes), reflect.go and schema.go (learning and
// linking a schema), explain.go (what is wrong with an upstream), resolve.go (addresses), balance.go and
// health.go (which process gets a call), roles.go (who may call what), report.go (how the upstreams are, for
// metrics).
package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/roster/internal/inflate"
	"example.com/roster/server/drain"
	"example.com/roster/server/rpc"
)

// Config configures a bridge.
type Config struct {
	// Upstreams are the servers. At least one must be given.
	Upstreams []Upstream
	// TLS is that of the connections to upstreams whose URL begins with https.
	TLS *tls.Config
	// Schema has the types of the upstreams that have no reflection: a descriptor set, as buf build -o
	// writes it. If it has a service, that upstream is not asked.
	Schema *descriptorpb.FileDescriptorSet
	// Known are contracts that this program has itself: an Upstream whose Service is one of them needs
	// neither reflection nor a Schema.
	Known []protoreflect.ServiceDescriptor
	// Roles say who may call which methods. The first that matches counts.
	Roles []RoleRule
	// MaxMessage is the maximum size of a message in either direction, in bytes; 0 means 4 MiB.
	MaxMessage int
	// MaxRequest is the same for messages to upstreams alone; 0 means MaxMessage.
	MaxRequest int
	// MaxStreams is the maximum number of open calls of each streaming method; 0 means 10,000.
	MaxStreams int
	// IdentityHeader is the metadata key, in lower case, in which an upstream is told the name of the
	// authenticated caller; empty means that it is not told.
	IdentityHeader string
	// LeaveOutAuthorization says that authorization is for the port, and is not passed on.
	LeaveOutAuthorization bool
	// DialOptions are added to those of the connections for calls, such as a handler that makes spans.
	DialOptions []grpc.DialOption
	// Options are those of every handler of the port, such as its interceptors. Calls that succeed may pass
	// the interceptors by: see direct.go.
	Options connect.HandlerOption
	// Log gets a line when services are mounted or cannot be, and about upstreams that do not answer.
	Log *slog.Logger
}

// leaveOut are the keys of metadata that are not passed on to upstreams.
func (c *Config) leaveOut() []string {
	if c.LeaveOutAuthorization {
		return []string{"authorization"}
	}
	return nil
}

// An Upstream is one server.
type Upstream struct {
	// Service is the full name of the only service to mount; empty means all that the server has.
	Service string
	// Endpoints are where its processes listen.
	Endpoints []Endpoint

	schema *schema // if it needs not be learnt
}

// String returns the text that ParseUpstream reads.
func (u Upstream) String() string {
	var urls []string
	for _, e := range u.Endpoints {
		urls = append(urls, e.String())
	}
	text := strings.Join(urls, ",")
	if u.Service != "" {
		text = u.Service + "=" + text
	}
	return text
}

// TLS reports whether its URLs begin with https.
func (u Upstream) TLS() bool { return len(u.Endpoints) > 0 && u.Endpoints[0].tls }

// ParseUpstream reads [SERVICE=]URL[,URL…].
func ParseUpstream(text string) (Upstream, error) {
	var u Upstream
	urls := text
	if service, rest, ok := strings.Cut(text, "="); ok && !strings.Contains(service, "/") {
		if !protoreflect.FullName(service).IsValid() {
			return u, fmt.Errorf("%q is no full name of a service, such as jobs.v1.JobService", service)
		}
		if neverMounted(protoreflect.FullName(service)) {
			return u, fmt.Errorf("%s is not bridged: the port has its own, which tells of all that is served here", service)
		}
		u.Service, urls = service, rest
	}
	for text := range strings.SplitSeq(urls, ",") {
		endpoint, err := ParseEndpoint(strings.TrimSpace(text))
		if err != nil {
			return u, err
		}
		if slices.Contains(u.Endpoints, endpoint) {
			return u, fmt.Errorf("%v is there twice", endpoint)
		}
		u.Endpoints = append(u.Endpoints, endpoint)
	}
	_, err := usesTLS(u.Endpoints)
	return u, err
}

// A Bridge keeps the services of upstreams mounted.
type Bridge struct {
	config    Config
	upstreams []*upstream
	drain     *drain.State  // of the port
	wake      chan struct{} // has one value if what the upstreams offer may have changed

	mu       sync.Mutex
	mounted  map[protoreflect.FullName]*mounted
	services census          // as of the last update
	told     map[string]bool // problems that are in the log already
}

// mounted is a service as it was mounted last.
type mounted struct {
	upstream *upstream
	schema   *serviceSchema
	mount    rpc.Mount
	differ   string    // what differs between its processes
	refuse   bool      // because they differ
	since    time.Time // when they began to differ
}

// settle is how long the processes of an upstream may have different schemas, as while one after the
// other is restarted with a new version. Until then the schema that was mounted stays.
const settle = 30 * time.Second

// maxTold is how many problems are remembered, so that each is in the log once.
const maxTold = 1000

// New returns a bridge that is not connected yet. It fails if two upstreams are given the same service.
func New(config Config) (*Bridge, error) {
	if len(config.Upstreams) == 0 {
		return nil, errors.New("bridge: no upstream is given")
	}
	if err := duplicate(config.Upstreams); err != nil {
		return nil, fmt.Errorf("bridge: %w", err)
	}
	if config.MaxMessage == 0 {
		config.MaxMessage = rpc.MaxMessageBytes
	}
	if config.MaxRequest == 0 {
		config.MaxRequest = config.MaxMessage
	}
	if config.MaxStreams == 0 {
		config.MaxStreams = 10_000
	}
	b := &Bridge{config: config, wake: make(chan struct{}, 1), mounted: make(map[protoreflect.FullName]*mounted), told: make(map[string]bool)}
	var given *schema
	if config.Schema != nil {
		given = link(config.Schema.GetFile(), nil)
		if len(given.services)+len(given.problems) == 0 {
			return nil, errors.New("bridge: the descriptor set has no service")
		}
	}
	owners := make(map[protoreflect.FullName]*upstream)
	for _, about := range config.Upstreams {
		about.schema = b.knownSchema(about, given)
		u, err := newUpstream(&b.config, about, b.nudge)
		if err != nil {
			return nil, fmt.Errorf("bridge: %w", err)
		}
		b.upstreams = append(b.upstreams, u)
		owned := []protoreflect.FullName{protoreflect.FullName(about.Service)}
		if about.schema != nil {
			for name, why := range about.schema.problems {
				return nil, fmt.Errorf("bridge: %s: %w", name, why)
			}
			owned = slices.Collect(maps.Keys(about.schema.services))
		}
		for _, name := range owned {
			if other := owners[name]; other != nil && name != "" {
				return nil, fmt.Errorf("bridge: %s is to be answered by %s and by %s: give it to one of them, as in --bridge %s=URL, or to both as its processes, %s=URL,URL",
					name, other.name, u.name, name, name)
			}
			owners[name] = u
		}
	}
	return b, nil
}

// knownSchema returns the schema of an upstream that need not be learnt, else nil.
func (b *Bridge) knownSchema(about Upstream, given *schema) *schema {
	name := protoreflect.FullName(about.Service)
	if given != nil {
		if name == "" {
			return given
		}
		if service, why := given.services[name], given.problems[name]; service != nil || why != nil {
			s := &schema{services: map[protoreflect.FullName]*serviceSchema{}, problems: map[protoreflect.FullName]error{}}
			if service != nil {
				s.services[name] = service
			} else {
				s.problems[name] = why
			}
			return s
		}
	}
	for _, service := range b.config.Known {
		if service.FullName() == name {
			return knownContract(service)
		}
	}
	return nil
}

// Mounts returns what is mounted at the moment.
func (b *Bridge) Mounts() []rpc.Mount {
	b.mu.Lock()
	defer b.mu.Unlock()
	var mounts []rpc.Mount
	for _, name := range slices.Sorted(maps.Keys(b.mounted)) {
		mounts = append(mounts, b.mounted[name].mount)
	}
	return mounts
}

// A Port is where services are mounted, such as a *server.Server.
type Port interface {
	// Mount replaces the services that an earlier Mount has set.
	Mount(...rpc.Mount) error
	// Drain is the state of the port's shutdown, which ends the streams of the bridge.
	Drain() *drain.State
}

// Run follows the upstreams until ctx is done, and mounts all services whenever they have changed. If
// that fails because a service clashes with one that the port has already, that service is left out.
func (b *Bridge) Run(ctx context.Context, port Port) {
	b.drain = port.Drain()
	var running sync.WaitGroup
	defer running.Wait()
	for _, u := range b.upstreams {
		running.Go(func() { u.run(ctx) })
		defer u.conn.Close()
	}
	b.nudge()
	var later <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		case <-later:
		}
		later = nil
		if again := b.update(port.Mount); again > 0 {
			later = time.After(again)
		}
	}
}

// nudge has Run look at what the upstreams offer.
func (b *Bridge) nudge() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// update mounts what the upstreams offer. It returns after what time to do so again, 0 for not at all.
func (b *Bridge) update(mount func(...rpc.Mount) error) (again time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := make(map[protoreflect.FullName]*mounted)
	refused := make(census)
	defer func() { b.count(refused) }()
	changed := false
	for _, u := range b.upstreams {
		offers := u.offers()
		if name := protoreflect.FullName(u.about.Service); name != "" && u.known() {
			if _, has := offers[name]; !has {
				b.tell(u, name, "is not mounted: the server does not have it")
			}
		}
		for _, name := range slices.Sorted(maps.Keys(offers)) {
			o := offers[name]
			before := b.mounted[name]
			if o.err != nil {
				refused.count(u, Unusable, 1)
				b.tell(u, name, "cannot be mounted: "+o.err.Error())
				continue
			}
			if other := next[name]; other != nil {
				refused.count(u, Owned, 1)
				b.tell(u, name, "is not mounted: "+other.upstream.name+" answers it already; give it to one of them, as in --bridge "+string(name)+"=URL")
				continue
			}
			m := &mounted{upstream: u, schema: o.schema, differ: o.differ}
			if before != nil && before.upstream == u {
				if o.differ != "" {
					m.since = before.since
					m.schema = before.schema
				}
			}
			if o.differ != "" && m.since.IsZero() {
				m.since = time.Now()
			}
			m.refuse = o.differ != "" && (before == nil || time.Since(m.since) >= settle)
			if o.differ != "" && !m.refuse {
				left := max(time.Second, settle-time.Since(m.since))
				if again == 0 || left < again {
					again = left
				}
			}
			down := !u.up()
			if before != nil && before.upstream == u && before.schema.fingerprint == m.schema.fingerprint &&
				before.refuse == m.refuse && before.differ == m.differ && before.mount.Down == (down || m.refuse) {
				next[name] = before
				continue
			}
			if m.refuse {
				b.tell(u, name, "is refused: the processes of the server have different schemas: "+o.differ+" ("+o.between+")")
			}
			m.mount = b.mount(u, m.schema, m.refuse, o.differ)
			m.mount.Down = down || m.refuse
			next[name] = m
			changed = true
		}
	}
	for name := range b.mounted {
		changed = changed || next[name] == nil
	}
	if !changed {
		b.mounted = next
		return again
	}
	for {
		var mounts []rpc.Mount
		for _, name := range slices.Sorted(maps.Keys(next)) {
			mounts = append(mounts, next[name].mount)
		}
		err := mount(mounts...)
		var clash *rpc.MountedTwice
		if err == nil {
			break
		}
		if !errors.As(err, &clash) || next[protoreflect.FullName(clash.Service)] == nil {
			b.config.Log.Error("bridge: the services cannot be mounted", "error", err.Error())
			return again
		}
		name := protoreflect.FullName(clash.Service)
		refused.count(next[name].upstream, Reserved, 1)
		b.tell(next[name].upstream, name, "is not mounted: the port has a service of that name")
		delete(next, name)
	}
	for name, m := range next {
		if before := b.mounted[name]; before == nil {
			m.upstream.log.Info("bridge: mounted", "service", string(name), "methods", m.schema.descriptor.Methods().Len())
		} else if before.schema.fingerprint != m.schema.fingerprint {
			m.upstream.log.Info("bridge: mounted again with another schema", "service", string(name), "difference", difference(before.schema, m.schema))
		}
	}
	for name, m := range b.mounted {
		if next[name] == nil {
			m.upstream.log.Warn("bridge: no longer mounted: the server does not have it any more", "service", string(name))
		}
	}
	b.mounted = next
	return again
}

// Unknown returns the error for a call of a service that is not mounted: UNAVAILABLE if it may be one of
// an upstream whose schema has not been learnt yet, else nil.
func (b *Bridge) Unknown(path string) *connect.Error {
	service, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	for _, u := range b.upstreams {
		if u.about.schema != nil || !u.wanted(protoreflect.FullName(service)) || u.known() {
			continue
		}
		text := "a server behind this one has not told its services yet"
		if u.about.Service != "" {
			text = service + " is unavailable: its server has not answered yet"
		}
		if u.hasNoReflection() {
			return connect.NewError(connect.CodeUnavailable, errors.New(text+", since it has no reflection: the log here says what to do"))
		}
		return connect.NewError(connect.CodeUnavailable, errors.New(text+": call again later"))
	}
	return nil
}

// tell logs a problem once.
func (b *Bridge) tell(u *upstream, service protoreflect.FullName, problem string) {
	line := u.name + " " + string(service) + " " + problem
	if !b.told[line] {
		if len(b.told) >= maxTold {
			clear(b.told) // the texts have what upstreams say, which may differ each time
		}
		b.told[line] = true
		u.log.Warn("bridge: " + string(service) + " " + problem)
	}
}

// mount returns the mount of a service. If it is refused, every call gets an error that says what
// differs.
func (b *Bridge) mount(u *upstream, s *serviceSchema, refuse bool, differ string) rpc.Mount {
	handlers := make(map[string]http.Handler)
	policies := make(map[string]rpc.Policy)
	options := []connect.HandlerOption{
		connect.WithReadMaxBytes(b.config.MaxRequest),
		connect.WithSendMaxBytes(b.config.MaxMessage),
	}
	tooLong := b.config.requestPolicy().TooLong()
	for _, format := range []inflate.Format{inflate.Deflate, inflate.Gzip} { // the last one is preferred
		options = append(options, connect.WithCompression(format.String(),
			func() connect.Decompressor {
				return inflate.New(format, int64(b.config.MaxRequest), func() error { return tooLong })
			},
			format.NewCompressor))
	}
	if b.config.Options != nil {
		options = slices.Insert(options, 0, b.config.Options)
	}
	methods, defaults := s.descriptor.Methods(), make(estimates)
	for i := range methods.Len() {
		descriptor := methods.Get(i)
		m := &method{
			upstream:   u,
			path:       fmt.Sprintf("/%s/%s", s.descriptor.FullName(), descriptor.Name()),
			descriptor: descriptor,
			input:      newForm(descriptor.Input(), s.types, u.memory, defaults),
			output:     newForm(descriptor.Output(), s.types, u.memory, defaults),
			drain:      b.drain,
		}
		if refuse {
			m.refused = connect.NewError(connect.CodeUnavailable, fmt.Errorf(
				"%s is refused: the processes of its server have different schemas: %s", s.descriptor.FullName(), differ))
		}
		handlers[m.path] = m.handler(options...)
		policies[string(descriptor.Name())] = b.config.policy(u, descriptor)
	}
	return rpc.Mount{
		Service:  s.descriptor,
		Policies: policies,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handlers[r.URL.Path].ServeHTTP(w, r)
		}),
	}
}
