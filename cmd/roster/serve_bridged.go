package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/roster/server"
	"example.com/roster/server/bridge"
	"example.com/roster/server/rpc"
)

// A bridgedPort mounts the services of other servers, and tells the operator of each when it can be
// called: which of its methods the network may call without a token, and on a terminal how to call it.
type bridgedPort struct {
	bridge.Port
	config  server.Config
	address string
	log     *slog.Logger
	// terminal gets the welcome; nil if nobody reads it.
	terminal io.Writer
	welcome  welcome

	mu   sync.Mutex
	told map[string]bool // methods that were told of, by path
}

// Mount implements bridge.Port.
func (p *bridgedPort) Mount(mounts ...rpc.Mount) error {
	if err := p.Port.Mount(mounts...); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var fresh []rpc.Mount
	told := make(map[string]bool)
	var open []string
	for _, m := range mounts {
		isNew := false
		for _, method := range methodsOf(m) {
			path := pathOf(method)
			told[path] = p.told[path] || !m.Down
			if m.Down || p.told[path] {
				continue
			}
			isNew = true
			if p.isOpen(m.Policies[string(method.Name())].Role) {
				open = append(open, path[1:])
			}
		}
		if isNew {
			fresh = append(fresh, m)
		}
	}
	p.told = told // a method that goes and comes back is told of again
	if len(open) > 0 {
		p.log.Warn("open to the network", "address", p.address, "what",
			"everyone who can reach it can call these methods of bridged servers; --bridge-role sets who may, with --tokens or --tls-client-ca", "methods", atMost(20, open))
	}
	if len(fresh) > 0 && p.terminal != nil {
		fmt.Fprint(p.terminal, p.bridged(fresh))
	}
	return nil
}

// isOpen reports whether the network may call methods of a role without a token or a certificate.
func (p *bridgedPort) isOpen(role rpc.Role) bool {
	proxied := len(p.config.TrustedProxies) > 0 || p.config.ProxyProtocol
	if p.config.Local && !proxied {
		return false
	}
	return role == rpc.Anyone || role == rpc.Reader && (!isGuarded(p.config) || p.config.OpenReads)
}

// bridged is what a person who started the bridge by hand reads of services that can now be called: their
// methods, and a line that calls one as pasted.
func (p *bridgedPort) bridged(mounts []rpc.Mount) string {
	var lines strings.Builder
	line := func(name, text string) { fmt.Fprintf(&lines, "  %-10s %s\n", name, text) }
	lines.WriteString("\n")
	var all []protoreflect.MethodDescriptor
	policies := make(map[string]rpc.Policy)
	const most = 10 // services
	for i, m := range mounts {
		var names []string
		for _, method := range methodsOf(m) {
			names = append(names, string(method.Name()))
			all = append(all, method)
			policies[pathOf(method)] = m.Policies[string(method.Name())]
		}
		switch {
		case i < most:
			line("Bridged", string(m.Service.FullName())+": "+strings.Join(atMost(20, names), ", "))
		case i == most:
			line("Bridged", fmt.Sprintf("and %d more services", len(mounts)-most))
		}
	}
	// A method that may change something can be called from this machine alone, unless there are tokens.
	callable := slices.DeleteFunc(all, func(method protoreflect.MethodDescriptor) bool {
		return policies[pathOf(method)].Role == rpc.Writer && !isGuarded(p.config) && !p.config.Local
	})
	switch method := exemplary(callable); {
	case len(callable) == 0 && len(all) > 0:
		line("curl", "none of these can be called: they may change something, which needs --tokens on a port of the network; see --bridge-role")
	case method != nil:
		w := p.welcome
		if w.tokens != "" && policies[pathOf(method)].Role == rpc.Anyone {
			w.tokens = ""
		}
		w.procedure, w.body, w.writes = pathOf(method), exampleBody(method.Input()), policies[pathOf(method)].Role == rpc.Writer
		if w.tokens != "" {
			line("A token", w.createToken())
		}
		line("curl", w.curl())
	}
	lines.WriteString("\n")
	return lines.String()
}

// methodsOf returns the methods of a mount in the order of its proto.
func methodsOf(m rpc.Mount) (methods []protoreflect.MethodDescriptor) {
	for i := range m.Service.Methods().Len() {
		methods = append(methods, m.Service.Methods().Get(i))
	}
	return methods
}

func pathOf(method protoreflect.MethodDescriptor) string {
	return "/" + string(method.Parent().FullName()) + "/" + string(method.Name())
}

// exemplary returns the unary method that a line to paste calls, nil if there is none: one that is named
// like a read, so that nothing is deleted by who tries the line, else the first.
func exemplary(methods []protoreflect.MethodDescriptor) protoreflect.MethodDescriptor {
	var first protoreflect.MethodDescriptor
	for _, method := range methods {
		if method.IsStreamingClient() || method.IsStreamingServer() {
			continue
		}
		if first == nil {
			first = method
		}
		for _, read := range []string{"Get", "List", "Check", "Find", "Search", "Read", "Describe", "Say", "Echo"} {
			if strings.HasPrefix(string(method.Name()), read) {
				return method
			}
		}
	}
	return first
}

// exampleBody is a request in JSON with a value in each plain field. Fields that are messages, lists or
// maps are left out, which every server must bear.
func exampleBody(message protoreflect.MessageDescriptor) string {
	var fields []string
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		oneof := field.ContainingOneof()
		if field.IsList() || field.IsMap() || len(fields) == 8 || oneof != nil && !oneof.IsSynthetic() && oneof.Fields().Get(0) != field {
			continue
		}
		var value string
		switch field.Kind() {
		case protoreflect.MessageKind, protoreflect.GroupKind:
			continue
		case protoreflect.StringKind:
			value = `"a"`
		case protoreflect.BytesKind:
			value = `"YQ=="`
		case protoreflect.BoolKind:
			value = "true"
		case protoreflect.EnumKind:
			values := field.Enum().Values()
			value = `"` + string(values.Get(min(1, values.Len()-1)).Name()) + `"`
		case protoreflect.Int64Kind, protoreflect.Uint64Kind, protoreflect.Sint64Kind, protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind:
			value = `"1"`
		default:
			value = "1"
		}
		name, _ := json.Marshal(field.JSONName()) // a proto may give it any
		fields = append(fields, string(name)+":"+value)
	}
	return "{" + strings.Join(fields, ",") + "}"
}

// atMost returns the first texts, and in place of the others how many those are.
func atMost(most int, texts []string) []string {
	if len(texts) <= most {
		return texts
	}
	return append(slices.Clone(texts[:most]), fmt.Sprintf("and %d more", len(texts)-most))
}
