package rpc

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// A Mount is a service of the port: its descriptor, its handler and a policy for each of its methods.
type Mount struct {
	// Service describes the service and its methods.
	Service protoreflect.ServiceDescriptor
	// Handler answers every method of the service, at /SERVICE/METHOD.
	Handler http.Handler
	// Policies maps the name of every method to its policy. There is no default: NewTable fails for a
	// method without a policy.
	Policies map[string]Policy
	// Down is true while the service cannot be answered, because the server behind it does not answer.
	// It is what health says of the service; calls go to Handler all the same.
	Down bool
}

// A Policy is what a method requires of its callers and how much it allows them.
type Policy struct {
	// Role is the permission that a caller needs. It has no default.
	Role Role
	// Vital is true for a method that reports the state of the server. It is answered however busy the
	// port is.
	Vital bool
	// MaxStreams is the maximum number of open calls of a streaming method, which must have it. A unary
	// method must not: the port has one maximum for all unary calls together.
	MaxStreams int
	// StreamsFlag is the flag that sets MaxStreams, for error messages. It is empty if no flag does.
	StreamsFlag string
	// MaxMessage is the maximum size of one request message in bytes, compressed or not: as much as the
	// method can use. A message is unpacked and decoded only up to it. 0 means MaxMessageBytes, which
	// suits a method whose requests have no bound of their own, such as one of another server.
	MaxMessage int
	// MessageFlag is the flag that MaxMessage is derived from, for error messages. It is empty if no
	// flag sets it.
	MessageFlag string
	// OwnBudget says that the handler bounds the memory of its requests and replies itself, as one whose
	// replies have nothing to do with the size of the requests. The port then tells it the size of the
	// request (Call.RequestBytes), and does not charge the reply.
	OwnBudget bool
	// OwnReply says that the size of a reply has nothing to do with that of the request, as that of a page
	// has not. The handler then calls Call.Reply.Hold with the most that the reply can be before it makes it,
	// and with its size afterwards; the port charges nothing before.
	OwnReply bool
	// MaxQuiet is how long a client that streams may pause between messages; 0 is no limit of the
	// method's. Over HTTP/2 the engine ends a stream on which neither side has sent anything for an hour
	// (h2.Config.StreamIdleTimeout).
	MaxQuiet time.Duration
	// MaxTime is how long a client that streams may take to send all its messages; 0 is no limit.
	MaxTime time.Duration
	// Safe is true for a method that changes nothing although its proto, which cannot be changed, does
	// not say so (idempotency_level = NO_SIDE_EFFECTS). See [Method.SideEffectFree].
	Safe bool
	// Example is a request in JSON for a caller who tries the method out. Errors suggest a command with
	// it. Empty means {}.
	Example string
	// Upstream names what the method depends on, such as [Store]; empty if it depends on nothing. The
	// health of a service is that of its upstream.
	Upstream string
}

// SamePolicy returns policies for a service whose methods all have the same one: unary for the unary
// methods, and unary with maxStreams for the streaming methods.
func SamePolicy(service protoreflect.ServiceDescriptor, unary Policy, maxStreams int) map[string]Policy {
	policies := make(map[string]Policy)
	for i := range service.Methods().Len() {
		method, policy := service.Methods().Get(i), unary
		if method.IsStreamingClient() || method.IsStreamingServer() {
			policy.MaxStreams = maxStreams
		}
		policies[string(method.Name())] = policy
	}
	return policies
}

// MessageLimit is the maximum size of a request message in bytes.
func (p Policy) MessageLimit() int { return cmp.Or(p.MaxMessage, MaxMessageBytes) }

// TooLong is the error of a request message over MessageLimit.
func (p Policy) TooLong() *connect.Error {
	set := "a fixed limit, no flag"
	if p.MessageFlag != "" {
		set = "as much as " + p.MessageFlag + " allows"
	}
	return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf(
		"a message is longer than %d bytes, before or after compression (%s): split it over several calls", p.MessageLimit(), set))
}

// Store is the upstream of the methods that read or write users.
const Store = "store"

// Role is the permission that a method requires. Its zero value is invalid, so that every policy has
// to name one.
type Role uint8

// The roles.
const (
	Anyone Role = 1 + iota // every caller
	Reader                 // callers that may look users up
	Writer                 // callers that may change users
)

// A Method is one procedure of a port. It is read only.
type Method struct {
	Policy
	// Path is that of its calls, such as "/MyService/User".
	Path string
	// Descriptor describes it.
	Descriptor protoreflect.MethodDescriptor
	// Handler answers it.
	Handler http.Handler
	// ClientStreams and ServerStreams are true if a call or its reply, respectively, may have any
	// number of messages, and so may take any time.
	ClientStreams, ServerStreams bool
	// SideEffectFree is true if a call changes nothing. Then it may be a GET of Connect, too, if its
	// handler has the option connect.WithIdempotency(connect.IdempotencyNoSideEffects).
	SideEffectFree bool
}

// Streams reports whether either side may send any number of messages.
func (m *Method) Streams() bool { return m.ClientStreams || m.ServerStreams }

// Gettable reports whether a call may be a GET of Connect.
func (m *Method) Gettable() bool { return m.SideEffectFree && !m.Streams() }

// Service is the full name of the service, such as "roster.v1.DirectoryService".
func (m *Method) Service() string { return string(m.Descriptor.Parent().FullName()) }

// A Table is every method of a port at one moment. It is immutable: when the mounts change, the port
// replaces the whole table.
type Table struct {
	methods  []*Method // in the order of the mounts and their descriptors
	paths    map[string]*Method
	services []protoreflect.ServiceDescriptor
	upstream map[string]string // by service
	down     map[string]bool   // by service
	replaced chan struct{}
}

// NewTable returns the table of mounts. It fails if a method has no policy or an invalid one, or if a
// service is mounted twice. The error names each fault.
func NewTable(mounts ...Mount) (*Table, error) {
	t := &Table{paths: make(map[string]*Method), upstream: make(map[string]string), down: make(map[string]bool), replaced: make(chan struct{})}
	var wrong []error
	for _, mount := range mounts {
		if mount.Service == nil || mount.Handler == nil {
			wrong = append(wrong, errors.New("a mount has no Service or no Handler"))
			continue
		}
		wrong = append(wrong, t.add(mount))
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return t, nil
}

// MountedTwice is the error of two mounts of one service.
type MountedTwice struct{ Service string }

// Error implements error.
func (e *MountedTwice) Error() string {
	return fmt.Sprintf("the service %s is mounted twice", e.Service)
}

func (t *Table) add(mount Mount) error {
	name := string(mount.Service.FullName())
	if _, mounted := t.upstream[name]; mounted {
		return &MountedTwice{name}
	}
	t.services = append(t.services, mount.Service)
	t.upstream[name] = ""
	t.down[name] = mount.Down
	var wrong []error
	methods := mount.Service.Methods()
	for i := range methods.Len() {
		descriptor := methods.Get(i)
		policy, ok := mount.Policies[string(descriptor.Name())]
		options, _ := descriptor.Options().(*descriptorpb.MethodOptions)
		m := &Method{
			Policy:         policy,
			Path:           fmt.Sprintf("/%s/%s", name, descriptor.Name()),
			Descriptor:     descriptor,
			Handler:        mount.Handler,
			ClientStreams:  descriptor.IsStreamingClient(),
			ServerStreams:  descriptor.IsStreamingServer(),
			SideEffectFree: policy.Safe || options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS,
		}
		if !ok {
			wrong = append(wrong, fmt.Errorf("%s has no policy: say in Mount.Policies who may call it", m.Path))
			continue
		}
		wrong = append(wrong, m.check())
		t.methods = append(t.methods, m)
		t.paths[m.Path] = m
		if m.Upstream != "" {
			t.upstream[name] = m.Upstream
		}
	}
	for method := range mount.Policies {
		if methods.ByName(protoreflect.Name(method)) == nil {
			wrong = append(wrong, fmt.Errorf("there is a policy for %s, a method that %s does not have", method, name))
		}
	}
	return errors.Join(wrong...)
}

// check returns an error if the policy is invalid for the method.
func (m *Method) check() error {
	switch {
	case m.Role < Anyone || m.Role > Writer:
		return fmt.Errorf("the policy of %s has no role: Anyone, Reader or Writer", m.Path)
	case m.Streams() && m.MaxStreams < 1:
		return fmt.Errorf("the policy of %s has no MaxStreams: a streaming method must have a bound on its open calls", m.Path)
	case !m.Streams() && m.MaxStreams != 0:
		return fmt.Errorf("the policy of %s has MaxStreams, but the method is unary", m.Path)
	case m.MaxMessage < 0 || m.MaxMessage > MaxPolicyMessageBytes:
		return fmt.Errorf("the policy of %s has the MaxMessage %d: it must be from 0 to %d", m.Path, m.MaxMessage, MaxPolicyMessageBytes)
	case !m.ClientStreams && m.MaxQuiet != 0:
		return fmt.Errorf("the policy of %s has MaxQuiet, but its clients do not stream", m.Path)
	case !m.ClientStreams && m.MaxTime != 0:
		return fmt.Errorf("the policy of %s has MaxTime, but its clients do not stream", m.Path)
	}
	return nil
}

// Method is the method at a path, nil if there is none.
func (t *Table) Method(path string) *Method { return t.paths[path] }

// Methods is all methods, in the order in which they were mounted.
func (t *Table) Methods() []*Method { return t.methods }

// Services is all services, in the order in which they were mounted.
func (t *Table) Services() []protoreflect.ServiceDescriptor { return t.services }

// Upstream names what a service depends on; empty if it depends on nothing. It reports false for a
// service that is not mounted.
func (t *Table) Upstream(service string) (upstream string, mounted bool) {
	upstream, mounted = t.upstream[service]
	return upstream, mounted
}

// Down reports whether the service is mounted with Mount.Down.
func (t *Table) Down(service string) bool { return t.down[service] }

// Replaced returns a channel that is closed when the port has replaced this table.
func (t *Table) Replaced() <-chan struct{} { return t.replaced }

// Replace closes the channel of Replaced. The port calls it once, after it has installed the new table.
func (t *Table) Replace() { close(t.replaced) }
