package gate

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestParseOrigin(t *testing.T) {
	for text, want := range map[string]string{
		"https://app.example.com":       "https://app.example.com",
		"http://localhost:3000":         "http://localhost:3000",
		"HTTPS://App.Example.com:8443":  "https://app.example.com:8443",
		"http://[::1]:8080":             "http://[::1]:8080",
		"http://192.0.2.1":              "http://192.0.2.1",
		"https://xn--bcher-kva.example": "https://xn--bcher-kva.example",
		"http://app.example.com:443":    "http://app.example.com:443",
		"http://localhost:*":            "http://localhost:*",
		"https://localhost:*":           "https://localhost:*",
	} {
		if got, err := ParseOrigin(text); err != nil || got != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	const form = "want scheme://host or scheme://host:port, such as https://app.example.com"
	for text, want := range map[string]string{
		"*":                             "every page on the web could call, and read all users: name each origin",
		"null":                          "any page can have the origin null, by a sandboxed frame: it cannot be allowed",
		"https://*.example.com":         "the only pattern is http://localhost:*",
		"http://localhost:*/":           "the only pattern",
		"http://127.0.0.1:*":            "the only pattern",
		"https://app.example.com/":      `an origin ends with host and port: leave out "/"`,
		"https://app.example.com/page":  `leave out "/page"`,
		"https://app.example.com?a=b":   `leave out "?a=b"`,
		"https://app.example.com#top":   `leave out "#top"`,
		"https://app.example.com:443":   "browsers leave out :443 of an https origin",
		"http://app.example.com:80":     "browsers leave out :80 of an http origin",
		"https://bücher.example":        "write the host in ASCII as browsers send it, beginning with xn--",
		"app.example.com":               form,
		"localhost:3000":                form,
		"ftp://app.example.com":         form,
		"https://":                      form,
		"https://:8080":                 form,
		"https://a b.example":           form,
		"https://app.example.com:":      form,
		"https://app.example.com:0":     form,
		"https://app.example.com:0443":  form,
		"https://app.example.com:99999": form,
		"https://app.example.com:x":     form,
		"https://me@app.example.com":    form,
		"https://[::1":                  form,
		"":                              form,
		"file://":                       form,
	} {
		if got, err := ParseOrigin(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestTheLocalPattern(t *testing.T) {
	o := newOrigins(OriginsConfig{Allowed: []string{"http://localhost:*"}}, nil)
	for origin, want := range map[string]bool{
		"http://localhost": true, "http://localhost:80": true, "http://localhost:5173": true,
		"https://localhost:5173": false, "http://localhost:": false, "http://localhost:0": false, "http://localhost:99999": false,
		"http://localhost:5173.example.com": false, "http://localhost.example.com:5173": false, "http://app.localhost:5173": false,
		"http://127.0.0.1:5173": false, "http://localhost:*": false, "http://localhost:5173/": false, "null": false, "": false,
		"http://user@localhost:5173": false, "HTTP://localhost:5173": false,
	} {
		if got := o.allows(origin); got != want {
			t.Errorf("%s: allowed %v, want %v", origin, got, want)
		}
	}
}

func BenchmarkOrigins(b *testing.B) {
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for name, config := range map[string]OriginsConfig{"none": {}, "loopback": {OnlyLoopback: true}, "allowed": {Allowed: []string{"https://app.example.com"}}} {
		b.Run(name, func(b *testing.B) {
			handler := newOrigins(config, nil).wrap(nil, nothing)
			request := httptest.NewRequest("POST", "/MyService/User", nil)
			request.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"grpc-python"}, "Grpc-Accept-Encoding": {"gzip"}}
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(w, request)
			}
		})
	}
}
