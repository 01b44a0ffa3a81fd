package bridge

import (
	"fmt"
	"path"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/roster/server/rpc"
)

// A RoleRule says who may call the methods that match a pattern.
type RoleRule struct {
	// Pattern is that of a method, such as jobs.v1.JobService/Get or jobs.v1.JobService/*. An asterisk
	// stands for any characters except a slash.
	Pattern string
	Role    rpc.Role
}

var roles = map[string]rpc.Role{"anyone": rpc.Anyone, "read": rpc.Reader, "write": rpc.Writer}

// String returns the text that ParseRoleRule reads.
func (r RoleRule) String() string {
	for name, role := range roles {
		if role == r.Role {
			return r.Pattern + "=" + name
		}
	}
	return r.Pattern
}

// ParseRoleRule reads METHOD-PATTERN=ROLE, where ROLE is anyone, read or write.
func ParseRoleRule(text string) (RoleRule, error) {
	pattern, role, ok := strings.Cut(text, "=")
	pattern = strings.TrimPrefix(pattern, "/")
	if _, err := path.Match(pattern, ""); !ok || err != nil || strings.Count(pattern, "/") != 1 {
		return RoleRule{}, fmt.Errorf("%q is no rule: write SERVICE/METHOD=ROLE, as in jobs.v1.JobService/Get*=read", text)
	}
	if roles[role] == 0 {
		return RoleRule{}, fmt.Errorf("%q has the role %q: there are anyone, read and write", text, role)
	}
	return RoleRule{pattern, roles[role]}, nil
}

// policy returns the policy of a method of an upstream. Without a rule it needs the role write, unless
// its proto says that it has no side effects.
func (c *Config) policy(u *upstream, method protoreflect.MethodDescriptor) rpc.Policy {
	p := c.requestPolicy()
	p.Role, p.Upstream, p.OwnBudget = rpc.Writer, u.name, true
	if options, _ := method.Options().(*descriptorpb.MethodOptions); options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS {
		p.Role = rpc.Reader
	}
	for _, rule := range c.Roles {
		if ok, _ := path.Match(rule.Pattern, string(method.Parent().FullName())+"/"+string(method.Name())); ok {
			p.Role = rule.Role
			break
		}
	}
	if method.IsStreamingClient() || method.IsStreamingServer() {
		p.MaxStreams = c.MaxStreams
	}
	return p
}

// requestPolicy says how long a message to an upstream may be.
func (c *Config) requestPolicy() rpc.Policy {
	return rpc.Policy{MaxMessage: c.MaxRequest, MessageFlag: "--bridge-max-message"}
}
