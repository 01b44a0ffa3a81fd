package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// fetch asks a server of Handler. The transport asks for gzip only when the
// header says so, and leaves the body as it came.
func fetch(t *testing.T, method, path string, header http.Header) (*http.Response, []byte) {
	t.Helper()
	server := httptest.NewServer(Handler())
	t.Cleanup(server.Close)
	req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, body
}

func wantHeader(t *testing.T, res *http.Response, name, want string) {
	t.Helper()
	if got := res.Header.Get(name); got != want {
		t.Errorf("%s %s: %s is %q, want %q", res.Request.Method, res.Request.URL.Path, name, got, want)
	}
}

var assetPath = regexp.MustCompile(`/assets/[\w.-]+`)

func TestPageAndEverythingItLoads(t *testing.T) {
	res, index := fetch(t, http.MethodGet, "/", nil)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status %d, want 200", res.StatusCode)
	}
	wantHeader(t, res, "Content-Type", "text/html; charset=utf-8")
	wantHeader(t, res, "Cache-Control", "no-cache")
	if !bytes.Contains(index, []byte("<title>Roster</title>")) {
		t.Errorf("the page has no title Roster:\n%s", index)
	}

	kinds := map[string]int{}
	for _, asset := range assetPath.FindAllString(string(index), -1) {
		res, body := fetch(t, http.MethodGet, asset, nil)
		if res.StatusCode != http.StatusOK || len(body) == 0 {
			t.Errorf("%s: status %d with %d bytes, want 200 with content", asset, res.StatusCode, len(body))
		}
		wantHeader(t, res, "Cache-Control", "public, max-age=31536000, immutable")
		kinds[res.Header.Get("Content-Type")]++
	}
	for _, kind := range []string{"text/javascript; charset=utf-8", "text/css; charset=utf-8"} {
		if kinds[kind] == 0 {
			t.Errorf("the page loads nothing of type %s; it loads %v", kind, kinds)
		}
	}

	for path, kind := range map[string]string{
		"/favicon.svg": "image/svg+xml",
		"/licenses.md": "text/plain; charset=utf-8",
		"/index.html":  "text/html; charset=utf-8",
	} {
		res, _ := fetch(t, http.MethodGet, path, nil)
		wantHeader(t, res, "Content-Type", kind)
		wantHeader(t, res, "Cache-Control", "no-cache")
	}
}

func TestNothingInlineThatThePolicyForbids(t *testing.T) {
	_, index := fetch(t, http.MethodGet, "/", nil)
	for what, pattern := range map[string]string{
		"an inline script":  `<script(?:[^>]*)>[^<]`,
		"an inline style":   `<style|\sstyle=`,
		"an event handler":  `\son\w+=`,
		"another origin":    `(?:src|href)="(?:https?:)?//`,
		"a data: or blob: ": `(?:src|href)="(?:data|blob):`,
	} {
		if found := regexp.MustCompile(pattern).Find(index); found != nil {
			t.Errorf("index.html has %s: %s", what, found)
		}
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	for _, call := range []struct{ method, path string }{
		{http.MethodGet, "/"},
		{http.MethodGet, "/favicon.svg"},
		{http.MethodGet, "/nowhere"},
		{http.MethodPost, "/"},
	} {
		res, _ := fetch(t, call.method, call.path, nil)
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
				"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
				"require-trusted-types-for 'script'; trusted-types 'none'",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Permissions-Policy": "camera=(), display-capture=(), geolocation=(), hid=(), idle-detection=(), local-fonts=(), " +
				"microphone=(), midi=(), payment=(), publickey-credentials-get=(), screen-wake-lock=(), serial=(), usb=()",
			"Referrer-Policy":           "no-referrer",
			"X-Content-Type-Options":    "nosniff",
			"Strict-Transport-Security": "", // set by package server, which knows whether there is TLS
		} {
			wantHeader(t, res, name, want)
		}
	}
}

func TestMethods(t *testing.T) {
	for _, call := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{http.MethodHead, "/", http.StatusOK, ""},
		{http.MethodPost, "/", http.StatusMethodNotAllowed, "GET, HEAD"},
		{http.MethodOptions, "/favicon.svg", http.StatusMethodNotAllowed, "GET, HEAD"},
		{http.MethodDelete, "/index.html", http.StatusMethodNotAllowed, "GET, HEAD"},
		{http.MethodPost, "/some.Service/Call", http.StatusNotFound, ""},
	} {
		res, _ := fetch(t, call.method, call.path, nil)
		if res.StatusCode != call.status {
			t.Errorf("%s %s: status %d, want %d", call.method, call.path, res.StatusCode, call.status)
		}
		wantHeader(t, res, "Allow", call.allow)
	}
}

func TestHeadSaysWhatGetWouldSend(t *testing.T) {
	get, body := fetch(t, http.MethodGet, "/", nil)
	head, none := fetch(t, http.MethodHead, "/", nil)
	if len(none) != 0 {
		t.Errorf("HEAD sent %d bytes", len(none))
	}
	if head.ContentLength != int64(len(body)) {
		t.Errorf("HEAD announces %d bytes, GET sends %d", head.ContentLength, len(body))
	}
	wantHeader(t, head, "Etag", get.Header.Get("Etag"))
}

func TestUnknownPathsAndFoldersAreNotFound(t *testing.T) {
	for _, path := range []string{
		"/nowhere", "/assets/", "/assets", "/assets/index.js", "/dist/index.html", "//", "/../embed.go", "/roster/v1", "/embed.go",
		"/%2e%2e/embed.go", "/index.html/", "/.vite/license.md",
	} {
		res, body := fetch(t, http.MethodGet, path, nil)
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, res.StatusCode)
		}
		wantHeader(t, res, "Content-Type", "text/plain; charset=utf-8")
		if !strings.HasPrefix(string(body), "404: nothing is served at this path") {
			t.Errorf("%s answers %q", path, body)
		}
	}
}

func TestRevalidation(t *testing.T) {
	for name, accept := range map[string]http.Header{
		"plain": nil,
		"gzip":  {"Accept-Encoding": {"gzip"}},
	} {
		t.Run(name, func(t *testing.T) {
			first, _ := fetch(t, http.MethodGet, "/", accept)
			tag := first.Header.Get("Etag")
			for _, test := range []struct {
				match  string
				status int
			}{
				{tag, http.StatusNotModified},
				{"W/" + tag, http.StatusNotModified},
				{`"other", ` + tag, http.StatusNotModified},
				{"*", http.StatusNotModified},
				{`"other"`, http.StatusOK},
				{strings.Trim(tag, `"`), http.StatusOK},
			} {
				header := accept.Clone()
				if header == nil {
					header = http.Header{}
				}
				header.Set("If-None-Match", test.match)
				res, body := fetch(t, http.MethodGet, "/", header)
				if res.StatusCode != test.status {
					t.Errorf("If-None-Match %s: status %d, want %d", test.match, res.StatusCode, test.status)
				}
				if res.StatusCode == http.StatusNotModified && len(body) != 0 {
					t.Errorf("If-None-Match %s: 304 with %d bytes", test.match, len(body))
				}
				wantHeader(t, res, "Etag", tag)
			}
		})
	}
}

func TestGzipOnlyForThoseWhoAskAndWithItsOwnTag(t *testing.T) {
	plain, body := fetch(t, http.MethodGet, "/", nil)
	wantHeader(t, plain, "Content-Encoding", "")
	wantHeader(t, plain, "Vary", "Accept-Encoding")
	for accept, want := range map[string]string{
		"gzip":               "gzip",
		"br, gzip;q=0.5":     "gzip",
		"deflate, GZIP":      "gzip",
		"gzip;q=0":           "",
		"gzip; q=0.0, br":    "",
		"br":                 "",
		"x-gzip, gzip;q=bad": "",
		"*":                  "",
	} {
		res, got := fetch(t, http.MethodGet, "/", http.Header{"Accept-Encoding": {accept}})
		wantHeader(t, res, "Content-Encoding", want)
		if want == "" {
			continue
		}
		if res.Header.Get("Etag") == plain.Header.Get("Etag") {
			t.Errorf("Accept-Encoding %s: gzipped and plain share the tag %s", accept, res.Header.Get("Etag"))
		}
		if len(got) >= len(body) {
			t.Errorf("gzipped is %d bytes, plain %d", len(got), len(body))
		}
		unpacked, err := gzip.NewReader(bytes.NewReader(got))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := io.ReadAll(unpacked); err != nil || !bytes.Equal(again, body) {
			t.Errorf("gzipped is not the plain page (%v)", err)
		}
	}
}

func TestAPageWithoutIndexIsRefused(t *testing.T) {
	_, err := load(fstest.MapFS{"dist/assets/a.js": {Data: []byte("1")}})
	if err == nil || !strings.Contains(err.Error(), "dist/index.html") {
		t.Errorf("load gives %v, want an error that names dist/index.html", err)
	}
}
