package rpc_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/roster/server/rpc"
	"example.com/roster/server/rpc/rpctest"
)

// mounted returns a service s with a unary method One, a streaming method Many and these policies.
func mounted(t *testing.T, policies map[string]rpc.Policy) rpc.Mount {
	t.Helper()
	mount := rpctest.Mounts(t,
		rpctest.Route{Path: "/s/One", Handler: http.NotFoundHandler(), SideEffectFree: true},
		rpctest.Route{Path: "/s/Many", Handler: http.NotFoundHandler(), ClientStreams: true})[0]
	mount.Policies = policies
	return mount
}

func TestATable(t *testing.T) {
	table, err := rpc.NewTable(mounted(t, map[string]rpc.Policy{
		"One":  {Role: rpc.Reader, Upstream: rpc.Store},
		"Many": {Role: rpc.Writer, MaxStreams: 7, MaxQuiet: time.Minute},
	}))
	if err != nil {
		t.Fatal(err)
	}
	one, many := table.Method("/s/One"), table.Method("/s/Many")
	switch {
	case one == nil || many == nil || table.Method("/s/Other") != nil || table.Method("s/One") != nil:
		t.Errorf("methods %v, %v", one, many)
	case one.Role != rpc.Reader || one.Streams() || !one.SideEffectFree || one.Service() != "s":
		t.Errorf("One is %+v", one)
	case many.Role != rpc.Writer || !many.ClientStreams || many.MaxStreams != 7 || many.SideEffectFree:
		t.Errorf("Many is %+v", many)
	}
	if upstream, ok := table.Upstream("s"); upstream != rpc.Store || !ok {
		t.Errorf("s needs %q, mounted %v, want the store", upstream, ok)
	}
	if _, ok := table.Upstream("other"); ok {
		t.Error("a service that is not mounted has an upstream")
	}
	select {
	case <-table.Replaced():
		t.Error("a new table is replaced")
	default:
	}
	table.Replace()
	<-table.Replaced()
}

// The error for a missing or invalid policy names the method.
func TestPoliciesThatDoNotFit(t *testing.T) {
	one, many := rpc.Policy{Role: rpc.Reader}, rpc.Policy{Role: rpc.Reader, MaxStreams: 1}
	with := func(policy rpc.Policy, change func(*rpc.Policy)) rpc.Policy {
		change(&policy)
		return policy
	}
	for want, policies := range map[string]map[string]rpc.Policy{
		"/s/One has no policy":  {"Many": many},
		"/s/Many has no policy": {"One": one},
		"the policy of /s/One has no role: Anyone, Reader or Writer": {
			"One": {}, "Many": many},
		"the policy of /s/Many has no role": {
			"One": one, "Many": with(many, func(p *rpc.Policy) { p.Role = rpc.Writer + 1 })},
		"the policy of /s/Many has no MaxStreams": {
			"One": one, "Many": one},
		"the policy of /s/One has MaxStreams, but the method is unary": {
			"One": many, "Many": many},
		"the policy of /s/One has MaxQuiet, but its clients do not stream": {
			"One": with(one, func(p *rpc.Policy) { p.MaxQuiet = time.Second }), "Many": many},
		"the policy of /s/One has MaxTime, but its clients do not stream": {
			"One": with(one, func(p *rpc.Policy) { p.MaxTime = time.Second }), "Many": many},
		"there is a policy for Two, a method that s does not have": {
			"One": one, "Many": many, "Two": one},
	} {
		if _, err := rpc.NewTable(mounted(t, policies)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	// One error names every fault.
	_, err := rpc.NewTable(mounted(t, nil))
	if err == nil || !strings.Contains(err.Error(), "/s/One has no policy") || !strings.Contains(err.Error(), "/s/Many has no policy") {
		t.Errorf("error %v, want both methods in it", err)
	}
}

func TestMountsThatDoNotFit(t *testing.T) {
	good := mounted(t, rpc.SamePolicy(mounted(t, nil).Service, rpc.Policy{Role: rpc.Anyone}, 1))
	for want, mounts := range map[string][]rpc.Mount{
		"the service s is mounted twice":         {good, good},
		"a mount has no Service or no Handler":   {{Handler: good.Handler}},
		"a mount has no Service or no Handler\n": {{Service: good.Service}, {}},
	} {
		if _, err := rpc.NewTable(mounts...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if _, err := rpc.NewTable(good); err != nil {
		t.Error(err)
	}
	var none protoreflect.ServiceDescriptor
	if _, err := rpc.NewTable(rpc.Mount{Service: none}); err == nil {
		t.Error("an empty mount is accepted")
	}
}
