package server

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"example.com/roster/server/rpc/rpctest"
)

// ask sends one request; headers are pairs of names and values, of which Host
// is the request's own.
func (p *port) ask(http2 bool, method, path, body string, headers ...string) (*http.Response, string) {
	p.t.Helper()
	request, err := http.NewRequest(method, "http://"+p.address+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			request.Host = headers[i+1]
			continue
		}
		request.Header.Add(headers[i], headers[i+1])
	}
	response, err := client(p.t, http2).Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response, string(text)
}

// preflight is what a browser asks before a call.
func (p *port) preflight(http2 bool, origin, path, headers string) (*http.Response, string) {
	p.t.Helper()
	return p.ask(http2, "OPTIONS", path, "", "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", headers)
}

const appOrigin = "https://app.example.com"

func TestAnAllowedOriginIsAnsweredBeforeItsToken(t *testing.T) {
	set, secrets := tokens(t)
	p := start(t, Config{Tokens: set, Origins: []string{"http://localhost:3000", appOrigin}, PageHeaders: []string{"X-Tenant"}}, nil)
	for _, http2 := range []bool{false, true} {
		for _, headers := range []string{"authorization,connect-protocol-version,connect-timeout-ms,content-type",
			"authorization,content-type,grpc-timeout,x-grpc-web,x-user-agent", "content-type,traceparent,tracestate",
			"b3,baggage,content-type,if-none-match,sentry-trace,x-b3-sampled,x-b3-traceid,x-request-id", "content-type,x-tenant"} {
			for _, path := range []string{"/MyService/User", "/MyService/Nope"} {
				response, _ := p.preflight(http2, appOrigin, path, headers)
				h := response.Header
				if response.StatusCode != 204 || h.Get("Access-Control-Allow-Origin") != appOrigin || h.Get("Access-Control-Allow-Methods") != "POST" ||
					h.Get("Access-Control-Allow-Headers") != headers || h.Get("Access-Control-Max-Age") != "7200" || h.Get("Access-Control-Allow-Credentials") != "" ||
					h.Get("Vary") != "Origin, Access-Control-Request-Method, Access-Control-Request-Headers" {
					t.Errorf("HTTP/2 %v, %s: %d %v", http2, path, response.StatusCode, h)
				}
			}
		}
		for token, status := range map[string]int{secrets["reader"]: 200, secrets["unknown"]: 401} {
			response, body := p.ask(http2, "POST", "/MyService/User", `{"userIDs":[1]}`, "Origin", appOrigin, "Content-Type", "application/json", "Authorization", "Bearer "+token)
			h := response.Header
			if response.StatusCode != status || h.Get("Access-Control-Allow-Origin") != appOrigin || h.Get("Vary") != "Origin" ||
				h.Get("Access-Control-Expose-Headers") != "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin, Etag, Retry-After" {
				t.Errorf("HTTP/2 %v: %d %v %s", http2, response.StatusCode, h, body)
			}
		}
	}
}

// A browser must be able to tell its page what is missing: with an empty answer it would say that the
// origin is not allowed, which it is.
func TestAPreflightIsAnsweredWithWhatIsAllowed(t *testing.T) {
	o, config := observed()
	config.Origins = []string{appOrigin}
	p := start(t, config, nil)
	for _, test := range []struct{ method, headers, wantMethod, wantHeaders, refused, logged string }{
		{"POST", "content-type,x-secret", "POST", "content-type", "preflight", `pages may not send the header \"x-secret\": if they have to, serve with --cors-header and its name`},
		{"POST", "x-secret", "POST", "authorization,b3,baggage,", "preflight", `pages may not send the header \"x-secret\"`},
		{"PUT", "content-type", "POST", "content-type", "preflight", `pages may not call with the HTTP method \"PUT\", but with GET and POST`},
		{"POST", "", "POST", "authorization,b3,baggage,", "", ""},
		{"GET", "x-request-id , Content-Type,content-type", "GET", "content-type,x-request-id", "", ""}, // not as browsers write it
	} {
		for _, http2 := range []bool{false, true} {
			p.log.reset()
			response, _ := p.ask(http2, "OPTIONS", "/MyService/User", "", "Origin", appOrigin, "Access-Control-Request-Method", test.method, "Access-Control-Request-Headers", test.headers)
			h := response.Header
			if response.StatusCode != 204 || h.Get("Access-Control-Allow-Origin") != appOrigin || h.Get("Access-Control-Allow-Methods") != test.wantMethod ||
				!strings.HasPrefix(h.Get("Access-Control-Allow-Headers"), test.wantHeaders) || strings.Contains(h.Get("Access-Control-Allow-Headers"), "x-secret") {
				t.Errorf("%+v: %d %v", test, response.StatusCode, h)
			}
			if got := o.last(t).refused; string(got) != test.refused {
				t.Errorf("%+v: refused for %q", test, got)
			}
			if log := p.log.String(); test.logged == "" && strings.Contains(log, "refused") || !strings.Contains(log, test.logged) {
				t.Errorf("%+v: logged %q", test, log)
			}
		}
	}
}

// spoofed look like an origin that is allowed, or like this machine.
var spoofed = []string{
	"null", "https://evil.example.com", "https://app.example.com.evil.example", "https://evilapp.example.com", "https://app.example.co",
	"http://app.example.com", "https://app.example.com:8443", "https://app.example.com:443", "https://app.example.com/", "HTTPS://app.example.com",
	"https://App.example.com", "https://app.example.com.", "https://user@app.example.com", "https://sub.app.example.com", "*", "https://*.example.com",
	"https://app.example.com, https://evil.example.com", "https://app.example.com https://evil.example.com",
	"http://localhost.evil", "http://127.0.0.1.evil.example", "http://evil.localhost.example", "http://localhost@evil.example", "http://10.0.0.1", "http://0.0.0.0:50051",
	"http://[::1].evil.example", "file://", "chrome-extension://abc", "http://[fe80::1]", "localhost", "//localhost", "",
}

// A preflight of a page that may not call is told which flag would let it: where no origin is
// allowed, too, and on the page's own paths.
func TestAForeignPreflightNamesTheFlag(t *testing.T) {
	for name, config := range map[string]Config{
		"no origins": {}, "on the loopback": {Local: true}, "another origin": {Origins: []string{appOrigin}},
		"any local port": {Origins: []string{"http://localhost:*"}},
	} {
		p := start(t, config, nil)
		for _, http2 := range []bool{false, true} {
			for _, path := range []string{"/MyService/User", "/", "/no.such.Service/Call"} {
				response, body := p.preflight(http2, "https://elsewhere.example", path, "content-type")
				const want = `pages of "https://elsewhere.example" may not call this port: if they are yours, serve with --cors-origin`
				if response.StatusCode != http.StatusForbidden || !strings.Contains(body, want) || response.Header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s, HTTP/2 %v, %s: %d %s", name, http2, path, response.StatusCode, body)
				}
			}
		}
	}
	// The pattern lets in what it says.
	p := start(t, Config{Origins: []string{"http://localhost:*"}}, nil)
	response, _ := p.preflight(true, "http://localhost:5173", "/MyService/User", "content-type")
	if got := response.Header.Get("Access-Control-Allow-Origin"); got != "http://localhost:5173" {
		t.Errorf("a page of localhost: %d, allowed origin %q", response.StatusCode, got)
	}
}

func TestASpoofedOriginIsRefused(t *testing.T) {
	for _, port := range []struct {
		config Config
		status int // of the call itself
	}{
		{Config{Origins: []string{appOrigin}}, 200}, // a browser does not get as far
		{Config{Origins: []string{appOrigin}, Local: true}, 403},
	} {
		p := start(t, port.config, nil)
		for _, origin := range spoofed {
			for _, http2 := range []bool{false, true} {
				preflight, said := p.preflight(http2, origin, "/MyService/User", "content-type")
				if preflight.StatusCode != 403 || preflight.Header.Get("Access-Control-Allow-Origin") != "" ||
					!strings.Contains(said, "may not call this port: if they are yours, serve with --cors-origin and their origin") {
					t.Errorf("local %v, %q: the preflight gets %d %v %s", port.config.Local, origin, preflight.StatusCode, preflight.Header, said)
				}
				response, said := p.ask(http2, "POST", "/MyService/User", `{"userIDs":[1]}`, "Origin", origin, "Content-Type", "application/json")
				if response.StatusCode != port.status || len(response.Header["Access-Control-Allow-Origin"]) > 0 || port.status == 403 && strings.Contains(said, "Ann") {
					t.Errorf("local %v, %q: %d %v %s", port.config.Local, origin, response.StatusCode, response.Header, said)
				}
			}
		}
		// The other origins of a header with two are not carried along.
		response, _ := p.ask(true, "POST", "/MyService/User", "{}", "Origin", appOrigin, "Origin", "https://evil.example.com", "Content-Type", "application/json")
		if got := response.Header["Access-Control-Allow-Origin"]; got != nil {
			t.Errorf("two origins: %q", got)
		}
	}
}

// A browser sends these without asking first.
func TestASimpleRequestReachesNoHandler(t *testing.T) {
	for _, config := range []Config{{}, {Local: true}, {Origins: []string{appOrigin}}} {
		reached := false
		p := start(t, config, nil, rpctest.Route{Path: "/t/Write", Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true })})
		for _, contentType := range []string{"text/plain", "text/plain; application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""} {
			headers := []string{"Origin", "https://evil.example.com"}
			if contentType != "" {
				headers = append(headers, "Content-Type", contentType)
			}
			response, _ := p.ask(true, "POST", "/t/Write", `{"userIDs":[1]}`, headers...)
			if want := map[bool]int{false: 415, true: 403}[config.Local]; response.StatusCode != want || response.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%+v, %q: %d, want %d", config, contentType, response.StatusCode, want)
			}
		}
		if reached {
			t.Errorf("%+v: it reached the handler", config)
		}
	}
}

func TestAPageOfAnotherNameDoesNotReadByRebinding(t *testing.T) {
	set, _ := tokens(t)
	const get = "/s/Read?connect=v1&encoding=json&message=%7B%7D"
	for _, test := range []struct {
		name         string
		config       Config
		origin, host string
		post, get    int
	}{
		{"the port's own page", Config{Local: true}, "http://localhost:50051", "localhost:50051", 200, 200},
		{"the same by number", Config{Local: true}, "http://127.0.0.1:50051", "127.0.0.1:50051", 200, 200},
		{"the same by another number", Config{Local: true}, "http://127.8.8.8", "127.8.8.8", 200, 200},
		{"the same in IPv6", Config{Local: true}, "http://[::1]:50051", "[::1]:50051", 200, 200},
		{"a name that is always local", Config{Local: true}, "http://roster.localhost:50051", "roster.localhost:50051", 200, 200},
		{"in capitals", Config{Local: true}, "", "LOCALHOST:50051", 200, 200},
		{"a program, whatever it calls the port", Config{Local: true}, "", "roster.internal:50051", 200, 403},
		{"a name from the web", Config{Local: true}, "http://evil.example:50051", "evil.example:50051", 403, 403},
		{"a name from the web that is allowed", Config{Local: true, Origins: []string{"http://evil.example:50051"}}, "http://evil.example:50051", "evil.example:50051", 200, 200},
		{"the same by its port", Config{Local: true, Origins: []string{"https://app.example.com"}}, "https://app.example.com", "App.example.com:443", 200, 200},
		{"another port of it", Config{Local: true, Origins: []string{"https://app.example.com"}}, "https://app.example.com:444", "app.example.com:444", 403, 403},
		{"a name below it", Config{Local: true, Origins: []string{"https://app.example.com"}}, "https://a.app.example.com", "a.app.example.com", 403, 403},
		{"on the network the name is any", Config{}, "http://evil.example:50051", "evil.example:50051", 200, 200},
		{"tokens are needed", Config{Local: true, Tokens: set}, "http://evil.example:50051", "evil.example:50051", 401, 401},
		{"tokens are needed to write alone", Config{Local: true, Tokens: set, OpenReads: true}, "http://evil.example:50051", "evil.example:50051", 403, 403},
	} {
		p := start(t, test.config, nil, safeRoutes()[:1]...)
		for _, http2 := range []bool{false, true} {
			headers := []string{"Host", test.host, "Content-Type", "application/json"}
			if test.origin != "" {
				headers = append(headers, "Origin", test.origin)
			}
			response, body := p.ask(http2, "POST", "/MyService/User", `{"userIDs":[1]}`, headers...)
			if response.StatusCode != test.post || (test.post == 200) != strings.Contains(body, "Ann") {
				t.Errorf("%s, HTTP/2 %v: %d %s, want %d", test.name, http2, response.StatusCode, body, test.post)
			}
			if test.post == 403 && !strings.Contains(body, `pages of \"`+test.origin+`\" may not call this port: if they are yours, serve with --cors-origin`) {
				t.Errorf("%s: %s", test.name, body)
			}
			response, body = p.ask(http2, "GET", get, "", "Host", test.host)
			if response.StatusCode != test.get || test.get == 403 && !strings.Contains(body, `serve with --cors-origin and an origin of that name, such as http://`+test.host) {
				t.Errorf("%s, HTTP/2 %v: GET gets %d %s, want %d", test.name, http2, response.StatusCode, body, test.get)
			}
		}
	}
}

// Whether a page may see a reply that a cache keeps depends on the page.
func TestGETsVaryByOrigin(t *testing.T) {
	p := start(t, Config{Origins: []string{appOrigin}}, nil, safeRoutes()...)
	for path, want := range map[string]string{"/s/Read?connect=v1&encoding=json&message=%7B%7D": "Origin, Accept-Encoding", "/": "Origin, Accept-Encoding"} {
		response, _ := p.ask(true, "GET", path, "")
		if got := strings.Join(response.Header["Vary"], ", "); got != want {
			t.Errorf("%s: Vary %q, want %q", path, got, want)
		}
	}
	if response, _ := p.ask(true, "POST", "/MyService/User", "{}", "Content-Type", "application/json"); response.Header.Get("Vary") != "" {
		t.Errorf("a call of a program: %v", response.Header)
	}
}

func TestARefusedOriginIsCountedAsThat(t *testing.T) {
	o, config := observed()
	config.Local = true
	p := start(t, config, nil)
	p.ask(true, "POST", "/MyService/User", "{}", "Origin", "http://evil.example", "Content-Type", "application/json")
	if got := o.last(t); got.refused != "origin" || got.code != connect.CodePermissionDenied {
		t.Errorf("%+v", got)
	}
	if log := p.log.String(); !strings.Contains(log, "caller refused") || !strings.Contains(log, "evil.example") {
		t.Errorf("the log: %s", log)
	}
}
