package server

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"example.com/roster/directory"
	"example.com/roster/directory/storetest"
)

// get sends a GET, or another method, with a message in its query.
func (p *port) get(http2 bool, method, path, message string, headers ...string) (*http.Response, string) {
	p.t.Helper()
	query := url.Values{"connect": {"v1"}, "encoding": {"json"}, "message": {message}}
	r, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+p.address+path+"?"+query.Encode(), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := client(p.t, http2).Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response, string(body)
}

// Probes and caches call by GET.
func TestAGETHasWhatCachesNeed(t *testing.T) {
	for _, standard := range []bool{false, true} {
		for _, http2 := range []bool{false, true} {
			p := start(t, Config{StandardHTTP2: standard, MaxBatch: 1000}, nil)
			ids := `{"userIDs":[3` + strings.Repeat(",3", 20) + `]}`
			for _, test := range []struct{ path, message, cached, want string }{
				{"/MyService/User", `{"userIDs":[1,9]}`, "private, no-cache", `{"message":"success","data":[{"name":"Ann","age":30,"email":"ann@example.com"}]}`},
				{"/MyService/User", ids, "private, no-cache", `{"message":"success","data":[{"name":"CCC`},
				{"/MyService/Health", `{}`, "no-store", `{}`},
				{"/roster.v1.DirectoryService/BatchGetUsers", `{"ids":[9]}`, "private, no-cache", `{"users":[],"unknownIds":[9]}`},
			} {
				first, body := p.get(http2, "GET", test.path, test.message)
				tag := first.Header.Get("ETag")
				if first.StatusCode != 200 || !strings.HasPrefix(body, test.want) || tag == "" || first.Header.Get("Cache-Control") != test.cached ||
					first.Header.Get("X-Content-Type-Options") != "nosniff" || first.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" ||
					first.ContentLength != int64(len(body)) || first.Header.Get("Vary") == "" {
					t.Errorf("%s: %d %v\n%.100s", test.path, first.StatusCode, first.Header, body)
				}
				again, nothing := p.get(http2, "GET", test.path, test.message, "If-None-Match", `"other", W/`+tag)
				if again.StatusCode != 304 || nothing != "" || again.Header.Get("ETag") != tag || again.Header.Get("Cache-Control") != test.cached ||
					again.Header.Get("Content-Encoding") != "" {
					t.Errorf("%s, if none matches %s: %d %v %q", test.path, tag, again.StatusCode, again.Header, nothing)
				}
				head, nothing := p.get(http2, "HEAD", test.path, test.message)
				if head.StatusCode != 200 || nothing != "" || head.Header.Get("ETag") != tag || head.ContentLength != first.ContentLength {
					t.Errorf("%s, HEAD: %d %v %q", test.path, head.StatusCode, head.Header, nothing)
				}
				if other, _ := p.get(http2, "GET", test.path, test.message, "If-None-Match", `"other"`); other.StatusCode != 200 {
					t.Errorf("%s, if none matches another: %d", test.path, other.StatusCode)
				}
			}
			plain, _ := p.get(http2, "GET", "/MyService/User", ids)
			packed, body := p.get(http2, "GET", "/MyService/User", ids, "Accept-Encoding", "gzip;q=1.0")
			if packed.Header.Get("Content-Encoding") != "gzip" || packed.Header.Get("ETag") == plain.Header.Get("ETag") || !strings.HasPrefix(body, "\x1f\x8b") {
				t.Errorf("compressed: %v %.10q", packed.Header, body)
			}
			for message, status := range map[string]int{`{"userIds":[1]}`: 400, `{"userIDs":[` + strings.Repeat("1,", 1000) + `1]}`: 429} {
				if response, body := p.get(http2, "GET", "/MyService/User", message); response.StatusCode != status || response.Header.Get("Cache-Control") != "no-store" ||
					response.Header.Get("ETag") != "" || !strings.Contains(body, `"code"`) {
					t.Errorf("%.30s: %d %v %s", message, response.StatusCode, response.Header, body)
				}
			}
		}
	}
}

// An ETag is that of the reply, so it changes when a user does.
func TestAnETagChangesWithTheUsers(t *testing.T) {
	p := start(t, Config{}, nil)
	before, _ := p.get(true, "GET", "/MyService/User", `{"userIDs":[1]}`)
	if err := storetest.Put(t.Context(), p.server.config.Directory, directory.User{ID: 1, Name: "Anna", Age: 31, Email: "ann@example.com"}); err != nil {
		t.Fatal(err)
	}
	after, body := p.get(true, "GET", "/MyService/User", `{"userIDs":[1]}`, "If-None-Match", before.Header.Get("ETag"))
	if after.StatusCode != 200 || !strings.Contains(body, "Anna") || after.Header.Get("ETag") == before.Header.Get("ETag") {
		t.Errorf("%d %v %s", after.StatusCode, after.Header, body)
	}
}

// Connect itself answers with a status alone.
func TestAGETWithABodyIsToldSo(t *testing.T) {
	p := start(t, Config{}, nil)
	for _, http2 := range []bool{false, true} {
		r, _ := http.NewRequest("GET", "http://"+p.address+"/MyService/User?connect=v1&encoding=json&message=%7B%7D", strings.NewReader("{}"))
		response, err := client(t, http2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != 415 || !strings.HasPrefix(string(body), "a GET of /MyService/User has its message in the query and no body, for example\ncurl -G ") {
			t.Errorf("%d %s", response.StatusCode, body)
		}
	}
}

// A message that is not base64, although the query says so, is a fault of the caller and not of the server.
func TestAGETWithDamagedBase64IsToldSo(t *testing.T) {
	p := start(t, Config{}, nil)
	for message, want := range map[string]int{"eyJ1c2VySURzIjpbMV19": 200, "eyJ1c2VySURzIjpbMV0gfQ": 200, "%21": 400, "eyJ1c2VySURzIjpbM!!!": 400, "e": 400} {
		response, err := http.Get("http://" + p.address + "/MyService/User?connect=v1&encoding=json&base64=1&message=" + message)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != want || want == 400 && !strings.Contains(string(body), `"code":"invalid_argument"`) {
			t.Errorf("%s: %d %s", message, response.StatusCode, body)
		}
	}
}
