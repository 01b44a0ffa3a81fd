package rpc

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// A Mount is a service that the port answers: what it is, who answers it, and a policy for each of
// its methods.
type Mount struct {
	// Service describes the service and its methods.
	Service protoreflect.ServiceDescriptor
	// Handler answers every method of the service, at /SERVICE/METHOD.
	Handler http.Handler
	// Policies has a policy for every method, by the method's name in the descriptor. There is no
	// default: a method without one is an error of NewTable.
	Policies map[string]Policy
}

// A Policy is what a method asks of its callers, and what it allows them.
type Policy struct {
	// Role is what a caller must be allowed. It has no default.
	Role Role
	// Vital: the method tells how the server is, and is answered however busy the port is.
	Vital bool
	// MaxStreams is how many calls of a streaming method may be open at a time. It must be set for
	// one, and does not exist for a unary method, whose calls are counted together.
	MaxStreams int
	// StreamsFlag is the flag that sets MaxStreams, for the error that names it; empty if it is fixed.
	StreamsFlag string
	// MaxQuiet is how long a client that may send any number of messages may send none; 0 is for ever.
	MaxQuiet time.Duration
	// Upstream names what the method needs in order to answer, such as [Store]; empty if it needs
	// nothing. Health reports a service by the state of its upstream.
	Upstream string
}

// SamePolicy returns a policy for every method of a service whose methods all ask the same of their
// callers: unary is that of the unary methods, and the streaming ones have maxStreams besides.
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

// Store is the upstream of the methods that need the users.
const Store = "store"

// Role is what a caller must be allowed in order to call a method. Its zero value is none: a policy
// has to name one.
type Role uint8

// The roles.
const (
	Anyone Role = 1 + iota // whoever reaches the port
	Reader                 // callers that may look users up
	Writer                 // callers that may change them
)

// A Method is one procedure that a port answers. It is read only.
type Method struct {
	Policy
	// Path is where it is called, such as "/MyService/User".
	Path string
	// Descriptor describes it.
	Descriptor protoreflect.MethodDescriptor
	// Handler answers it.
	Handler http.Handler
	// ClientStreams and ServerStreams: a call, or its reply, may have any number of messages, and so
	// take any time.
	ClientStreams, ServerStreams bool
	// SideEffectFree: a call changes nothing, so Connect's GET may make it too.
	SideEffectFree bool
}

// Streams tells whether either side may send any number of messages.
func (m *Method) Streams() bool { return m.ClientStreams || m.ServerStreams }

// Service is the full name of the service, such as "roster.v1.DirectoryService".
func (m *Method) Service() string { return string(m.Descriptor.Parent().FullName()) }

// A Table is everything that a port answers at one moment. It does not change: when the mounts of the
// port do, the port replaces the whole table.
type Table struct {
	methods  []*Method // in the order of the mounts and their descriptors
	paths    map[string]*Method
	services []protoreflect.ServiceDescriptor
	upstream map[string]string // by service
	replaced chan struct{}
}

// NewTable returns the table of mounts. It fails, with an error for each thing that is wrong, if a
// method has no policy or one that does not fit, or if a service is mounted twice.
func NewTable(mounts ...Mount) (*Table, error) {
	t := &Table{paths: make(map[string]*Method), upstream: make(map[string]string), replaced: make(chan struct{})}
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

func (t *Table) add(mount Mount) error {
	name := string(mount.Service.FullName())
	if _, mounted := t.upstream[name]; mounted {
		return fmt.Errorf("the service %s is mounted twice", name)
	}
	t.services = append(t.services, mount.Service)
	t.upstream[name] = ""
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
			SideEffectFree: options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS,
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

// check tells whether a method's policy fits the method.
func (m *Method) check() error {
	switch {
	case m.Role < Anyone || m.Role > Writer:
		return fmt.Errorf("the policy of %s has no role: Anyone, Reader or Writer", m.Path)
	case m.Streams() && m.MaxStreams < 1:
		return fmt.Errorf("the policy of %s has no MaxStreams: a streaming method must have a bound on its open calls", m.Path)
	case !m.Streams() && m.MaxStreams != 0:
		return fmt.Errorf("the policy of %s has MaxStreams, but the method is unary", m.Path)
	case !m.ClientStreams && m.MaxQuiet != 0:
		return fmt.Errorf("the policy of %s has MaxQuiet, but its clients do not stream", m.Path)
	}
	return nil
}

// Method is the method at a path, nil if there is none.
func (t *Table) Method(path string) *Method { return t.paths[path] }

// Methods is all methods, in the order in which they were mounted.
func (t *Table) Methods() []*Method { return t.methods }

// Services is all services, in the order in which they were mounted.
func (t *Table) Services() []protoreflect.ServiceDescriptor { return t.services }

// Upstream names what a service needs in order to answer, empty if it needs nothing. It reports false
// for a service that is not mounted.
func (t *Table) Upstream(service string) (upstream string, mounted bool) {
	upstream, mounted = t.upstream[service]
	return upstream, mounted
}

// Replaced is closed when the port has another table in place of this one.
func (t *Table) Replaced() <-chan struct{} { return t.replaced }

// Replace closes Replaced. The port calls it once, after the other table is in place.
func (t *Table) Replace() { close(t.replaced) }
