package server

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/roster/server/auth"
	"example.com/roster/server/rpc"
	"example.com/roster/server/rpc/rpctest"
	"example.com/roster/server/tlsfile/certtest"
)

// tokens returns a set with a reader, a writer, an expired token and an entry for a certificate,
// and the secrets by name.
func tokens(t testing.TB) (func() *auth.Set, map[string]string) {
	t.Helper()
	secrets := make(map[string]string)
	var entries []auth.Entry
	for name, role := range map[string]auth.Role{"reader": auth.Read, "writer": auth.Write, "expired": auth.Write} {
		var expires time.Time
		if name == "expired" {
			expires = time.Now().Add(-time.Minute)
		}
		var err error
		if entries, _, secrets[name], err = auth.NewToken(entries, name, role, time.Now(), expires); err != nil {
			t.Fatal(err)
		}
	}
	entries, _, err := auth.NewCertificate(entries, "billing", "billing.example.com", auth.Write, time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := auth.NewSet(entries)
	if err != nil {
		t.Fatal(err)
	}
	secrets["unknown"] = newToken(t)
	return func() *auth.Set { return set }, secrets
}

// newToken returns a token that is in no set.
func newToken(t testing.TB) string {
	t.Helper()
	_, _, secret, err := auth.NewToken(nil, "x", auth.Read, time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// helloRoutes answer with the name of the caller: /t/Read, /t/Write, /t/Open.
func helloRoutes() []rpctest.Route {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %q", rpc.From(r.Context()).Identity)
	})
	return []rpctest.Route{
		{Path: "/t/Read", Handler: hello},
		{Path: "/t/Write", Handler: hello, Policy: rpc.Policy{Role: rpc.Writer}},
		{Path: "/t/Open", Handler: hello, Policy: rpc.Policy{Role: rpc.Anyone}},
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	set, secrets := tokens(t)
	const (
		anonymous = `200 hello ""`
		reader    = `200 hello "reader"`
		writer    = `200 hello "writer"`
		needsRead = `401 {"code":"unauthenticated","message":"this call needs a token of the role read in the header \"authorization: Bearer TOKEN\": the operator of this server creates one with roster token create"}`
		readOnly  = `403 {"code":"permission_denied","message":"\"reader\" has the role read, this call needs write: the operator of this server creates one with roster token create --role write"}`
		closed    = `403 {"code":"permission_denied","message":"writes are disabled: the port is reachable from the network and has no tokens: serve with --tokens"}`
		proxied   = `403 {"code":"permission_denied","message":"writes are for callers on this machine alone, since the server has no tokens, and this call is not known to be of one: it came through a proxy; serve with --tokens"}`
		expired   = `401 {"code":"unauthenticated","message":"the token \"expired\" expired at `
		unknown   = `401 {"code":"unauthenticated","message":"the token is not known here: it was revoked, or is another server's"}`
		malformed = `401 {"code":"unauthenticated","message":"what was sent is not a token of Roster, or was mistyped or cut: a token is roster_ and 49 letters and digits"}`
		notBearer = `401 {"code":"unauthenticated","message":"the authorization header is not of the form \"Bearer TOKEN\""}`
	)
	needsWrite := strings.Replace(needsRead, "role read", "role write", 1)
	for _, port := range []struct {
		name   string
		config Config
		want   map[string][3]string // by what is sent: the answers to Read, Write and Open
	}{
		{"on this machine, without tokens", Config{Local: true}, map[string][3]string{
			"":                             {anonymous, anonymous, anonymous},
			"Bearer " + secrets["unknown"]: {anonymous, anonymous, anonymous}, // the port does not look at it
			"Basic cm9vdDpoZWxsbw==":       {anonymous, anonymous, anonymous},
		}},
		{"on this machine, behind a balancer", Config{Local: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, map[string][3]string{
			"": {anonymous, proxied, anonymous},
		}},
		{"on the network, without tokens", Config{}, map[string][3]string{
			"":                            {anonymous, closed, anonymous},
			"Bearer " + secrets["writer"]: {anonymous, closed, anonymous},
		}},
		{"with tokens", Config{Tokens: set}, map[string][3]string{
			"":                                   {needsRead, needsWrite, anonymous},
			"Bearer " + secrets["reader"]:        {reader, readOnly, reader},
			"bearer " + secrets["reader"]:        {reader, readOnly, reader},
			"Bearer " + secrets["writer"]:        {writer, writer, writer},
			"Bearer " + secrets["expired"]:       {expired, expired, expired},
			"Bearer " + secrets["unknown"]:       {unknown, unknown, unknown},
			"Bearer " + secrets["reader"][:30]:   {malformed, malformed, malformed},
			"Bearer  " + secrets["reader"]:       {malformed, malformed, malformed},
			"Bearer":                             {notBearer, notBearer, notBearer},
			"Bearer ":                            {notBearer, notBearer, notBearer},
			secrets["reader"]:                    {notBearer, notBearer, notBearer},
			"Basic cm9vdDpoZWxsbw==":             {notBearer, notBearer, notBearer},
			"Bearer " + strings.Repeat("x", 9e3): {malformed, malformed, malformed},
		}},
		{"with tokens, on this machine", Config{Tokens: set, Local: true}, map[string][3]string{
			"":                            {needsRead, needsWrite, anonymous},
			"Bearer " + secrets["reader"]: {reader, readOnly, reader},
		}},
		{"with tokens, reads open", Config{Tokens: set, OpenReads: true}, map[string][3]string{
			"":                             {anonymous, needsWrite, anonymous},
			"Bearer " + secrets["reader"]:  {reader, readOnly, reader},
			"Bearer " + secrets["writer"]:  {writer, writer, writer},
			"Bearer " + secrets["unknown"]: {unknown, unknown, unknown},
			"Bearer " + secrets["expired"]: {expired, expired, expired},
		}},
	} {
		p := start(t, port.config, nil, helloRoutes()...)
		for _, http2 := range []bool{false, true} {
			for sent, want := range port.want {
				for i, path := range []string{"/t/Read", "/t/Write", "/t/Open"} {
					var headers []string
					if sent != "" {
						headers = []string{"Authorization", sent}
					}
					response, body := p.post(http2, path, "application/json", strings.NewReader("{}"), headers...)
					got := fmt.Sprint(response.StatusCode, " ", body)
					if !strings.HasPrefix(got, want[i]) {
						t.Errorf("%s, HTTP/2 %v, %q, %s:\ngot  %s\nwant %s", port.name, http2, sent, path, got, want[i])
					}
					if secret := strings.TrimSpace(strings.TrimPrefix(sent, "Bearer")); len(secret) > 20 && strings.Contains(body, secret) {
						t.Errorf("%s, %q: the answer has the token: %s", port.name, sent, body)
					}
				}
			}
		}
		for name, secret := range secrets {
			if strings.Contains(p.log.String(), secret[len(secret)-20:]) {
				t.Errorf("%s: the log has the token %s:\n%s", port.name, name, p.log)
			}
		}
	}
}

func TestARefusalIsInTheCallersProtocol(t *testing.T) {
	set, secrets := tokens(t)
	p := start(t, Config{Tokens: set}, nil, helloRoutes()...)
	for _, test := range []struct {
		path, contentType, token string
		status                   int
		grpcStatus, challenge    string
		want                     string
	}{
		{"/MyService/User", "application/grpc", "", 200, "16", "", "this call needs a token of the role read"},
		{"/MyService/User", "application/grpc+proto", secrets["unknown"], 200, "16", "", "the token is not known here"},
		{"/t/Write", "application/grpc", secrets["reader"], 200, "7", "", `"reader" has the role read, this call needs write`},
		{"/MyService/User", "application/grpc-web", "", 200, "16", "", "this call needs a token"},
		{"/MyService/User", "application/grpc-web+json", secrets["expired"], 200, "16", "", "expired at"},
		{"/MyService/User", "application/proto", "", 401, "", `Bearer realm="roster"`, `"code":"unauthenticated"`},
		{"/MyService/User", "application/json", secrets["unknown"], 401, "", `Bearer realm="roster", error="invalid_token"`, `"code":"unauthenticated"`},
		{"/t/Write", "application/json", secrets["reader"], 403, "", `Bearer realm="roster", error="insufficient_scope", scope="write"`, `"code":"permission_denied"`},
		{"/MyService/User", "text/plain", "", 401, "", `Bearer realm="roster"`, "this call needs a token of the role read"},
	} {
		var headers []string
		if test.token != "" {
			headers = []string{"Authorization", "Bearer " + test.token}
		}
		response, body := p.post(true, test.path, test.contentType, strings.NewReader("{}"), headers...)
		said := strings.ToLower(response.Header.Get("Grpc-Message") + body)
		if response.StatusCode != test.status || response.Header.Get("Grpc-Status") != test.grpcStatus ||
			response.Header.Get("Www-Authenticate") != test.challenge || !strings.Contains(said, strings.ToLower(test.want)) {
			t.Errorf("%s as %s: %d, grpc-status %q, %q, %s", test.path, test.contentType, response.StatusCode,
				response.Header.Get("Grpc-Status"), response.Header.Get("Www-Authenticate"), said)
		}
	}
}

func TestMyServiceWithTokens(t *testing.T) {
	set, secrets := tokens(t)
	p := start(t, Config{Tokens: set}, nil)
	if response, _ := p.post(true, "/MyService/Health", "application/json", strings.NewReader("{}")); response.StatusCode != 200 {
		t.Errorf("health without a token: %d", response.StatusCode)
	}
	if response, body := p.post(true, "/MyService/User", "application/json", strings.NewReader(`{"userIDs":[1]}`), "Authorization", "Bearer "+secrets["reader"]); response.StatusCode != 200 || !strings.Contains(body, "Ann") {
		t.Errorf("%d %s", response.StatusCode, body)
	}
	// The page learns from health that look-ups need a token. With gRPC it would be metadata of the call.
	for contentType, want := range map[string]string{"application/json": `Bearer realm="roster"`, "application/grpc-web+proto": `Bearer realm="roster"`, "application/grpc": ""} {
		for _, open := range []bool{false, true} {
			p := start(t, Config{Tokens: set, OpenReads: open}, nil)
			if open {
				want = ""
			}
			response, _ := p.post(true, "/MyService/Health", contentType, strings.NewReader("{}"))
			if got := response.Header.Get("Www-Authenticate"); got != want {
				t.Errorf("health as %s, open reads %v: www-authenticate %q, want %q", contentType, open, got, want)
			}
		}
	}
	page, err := client(t, false).Get("http://" + p.address + "/")
	if err != nil {
		t.Fatal(err)
	}
	page.Body.Close()
	if page.StatusCode != 200 {
		t.Errorf("the page without a token: %d", page.StatusCode)
	}
	response, body := p.post(true, "/MyService/Nope", "application/json", strings.NewReader("{}"))
	if response.StatusCode != 404 || !strings.Contains(body, "unimplemented") {
		t.Errorf("an unknown procedure: %d %s", response.StatusCode, body)
	}
}

// Health needs no token, since probes have none. Reflection needs one where look-ups do.
func TestStandardServicesWithTokens(t *testing.T) {
	set, secrets := tokens(t)
	p := start(t, Config{Tokens: set}, nil)
	for _, test := range []struct {
		path, token string
		unknown     bool
	}{
		{"/grpc.health.v1.Health/Check", "", false},
		{"/grpc.health.v1.Health/Check", "unknown", true},
		{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "", true},
		{"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "", true},
		{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "reader", false},
		{"/roster.v1.DirectoryService/BatchGetUsers", "", true},
		{"/roster.v1.DirectoryService/BatchGetUsers", "reader", false},
	} {
		headers := []string{"Te", "trailers"}
		if test.token != "" {
			headers = append(headers, "Authorization", "Bearer "+secrets[test.token])
		}
		response, _ := p.post(true, test.path, "application/grpc", bytes.NewReader(envelope(0, nil)), headers...)
		if got := response.Header.Get("Grpc-Status"); (got == "16") != test.unknown || got == "" {
			t.Errorf("%s with the token %q: status %s, %s", test.path, test.token, got, response.Header.Get("Grpc-Message"))
		}
	}
}

func TestTwoAuthorizationHeaders(t *testing.T) {
	set, secrets := tokens(t)
	p := start(t, Config{Tokens: set}, nil, helloRoutes()...)
	for _, http2 := range []bool{false, true} {
		request, err := http.NewRequest("POST", "http://"+p.address+"/t/Read", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + secrets["reader"], "Bearer " + secrets["writer"]}}
		response, err := client(t, http2).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != 401 || !strings.Contains(string(body), "there is more than one authorization header: send one") {
			t.Errorf("HTTP/2 %v: %d %s", http2, response.StatusCode, body)
		}
	}
}

func TestARefusalWaitsForNoBody(t *testing.T) {
	set, _ := tokens(t)
	p := start(t, Config{Tokens: set}, nil)
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// With this header a client sends the body only when the server asks for it.
	fmt.Fprintf(conn, "POST /MyService/User HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(10 * time.Second)) // the stall timeout is 30 s
	if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || response.StatusCode != 401 {
		t.Errorf("HTTP/1.1: %v, %v", response, err)
	}
	reader, writer := io.Pipe()
	defer writer.Close()
	if response, _ := p.post(true, "/MyService/User", "application/json", reader); response.StatusCode != 401 {
		t.Errorf("HTTP/2: %d", response.StatusCode)
	}
}

func TestARevokedTokenEndsAtOnce(t *testing.T) {
	before, secrets := tokens(t)
	after, err := auth.NewSet(nil)
	if err != nil {
		t.Fatal(err)
	}
	var current atomic.Pointer[auth.Set]
	current.Store(before())
	p := start(t, Config{Tokens: current.Load}, nil)
	shared := client(t, true)
	ask := func() int {
		request, _ := http.NewRequest("POST", "http://"+p.address+"/MyService/User", strings.NewReader("{}"))
		request.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + secrets["reader"]}}
		response, err := shared.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	if got := ask(); got != 200 {
		t.Errorf("before: %d", got)
	}
	current.Store(after)
	if got := ask(); got != 401 {
		t.Errorf("after: %d", got)
	}
}

func TestRefusalsAreLoggedAtABoundedRate(t *testing.T) {
	set, secrets := tokens(t)
	p := start(t, Config{Tokens: set}, nil)
	const guesses = 200
	for range guesses {
		p.post(true, "/MyService/User", "application/json", strings.NewReader("{}"), "Authorization", "Bearer "+secrets["unknown"])
	}
	log := p.log.String()
	lines := strings.Count(log, "caller refused")
	if lines < 1 || lines > 10+30 {
		t.Errorf("%d lines for %d guesses", lines, guesses)
	}
	for _, want := range []string{"code=unauthenticated", "the token is not known here", "path=/MyService/User", "address=127.0.0.1:"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in\n%s", want, log)
		}
	}
}

func TestWhatCertificatesMayDo(t *testing.T) {
	set, secrets := tokens(t)
	ca := certtest.NewCA(t, "clients")
	serverCertificate, roots := credentials(t)
	spiffe, _ := url.Parse("spiffe://example.com/reports")
	billing := ca.Issue(t, certtest.For("billing.example.com")).TLS(t)
	named := certtest.For("billing.example.com")
	named.URIs = []*url.URL{spiffe}
	reports := ca.Issue(t, named).TLS(t)
	nobody := ca.Issue(t, certtest.Named("billing")).TLS(t) // the name of the entry, not of its certificate
	for _, test := range []struct {
		name        string
		tokens      bool
		certificate *tls.Certificate
		token       string
		path, want  string
	}{
		{"one with a role", true, &billing, "", "/t/Write", `200 hello "billing"`},
		{"one without may read", true, &reports, "", "/t/Read", `200 hello "spiffe://example.com/reports"`},
		{"and not write", true, &reports, "", "/t/Write", `403 {"code":"permission_denied","message":"\"spiffe://example.com/reports\" has the role read`},
		{"an entry goes by its certificate", true, &nobody, "", "/t/Write", `403 {"code":"permission_denied","message":"\"billing\" has the role read`},
		{"none", true, nil, "", "/t/Read", "401"},
		{"a token besides counts alone", true, &billing, "reader", "/t/Write", "403"},
		{"and the other way round", true, &reports, "writer", "/t/Write", `200 hello "writer"`},
		{"a wrong token besides", true, &billing, "unknown", "/t/Read", "401"},
		{"without tokens it may read", false, &billing, "", "/t/Read", `200 hello "billing.example.com"`},
		{"and not write, on the network", false, &billing, "", "/t/Write", `403 {"code":"permission_denied","message":"\"billing.example.com\" has the role read`},
	} {
		for _, standard := range []bool{false, true} {
			config := Config{ClientCertificates: true, StandardHTTP2: standard, TLS: &tls.Config{
				Certificates: []tls.Certificate{serverCertificate}, ClientCAs: ca.Pool(), ClientAuth: tls.VerifyClientCertIfGiven}}
			if test.tokens {
				config.Tokens = set
			}
			p := start(t, config, nil, helloRoutes()...)
			for _, http2 := range []bool{false, true} {
				shows := &tls.Config{RootCAs: roots}
				if test.certificate != nil {
					shows.Certificates = []tls.Certificate{*test.certificate}
				}
				request, _ := http.NewRequest("POST", "https://"+p.address+test.path, strings.NewReader("{}"))
				request.Header.Set("Content-Type", "application/json")
				if test.token != "" {
					request.Header.Set("Authorization", "Bearer "+secrets[test.token])
				}
				client := tlsClient(t, http2, shows)
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(response.Body)
				response.Body.Close()
				client.CloseIdleConnections() // or the drain waits a second for it
				if got := fmt.Sprint(response.StatusCode, " ", string(body)); !strings.HasPrefix(got, test.want) {
					t.Errorf("%s, HTTP/2 %v, standard %v: %s\nwant %s", test.name, http2, standard, got, test.want)
				}
			}
			p.stop()
		}
	}
}
