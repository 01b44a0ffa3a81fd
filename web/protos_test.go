package web

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// served says which file of the repository is at which path.
var served = map[string]string{
	"/api.proto":                   "proto/api.proto",
	"/roster/v1/directory.proto":   "proto/roster/v1/directory.proto",
	"/buf/validate/validate.proto": "third_party/buf/validate/validate.proto",
}

func TestTheProtosAreServedAsTheyAre(t *testing.T) {
	for path, name := range served {
		want, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		res, got := fetch(t, http.MethodGet, path, nil)
		if res.StatusCode != http.StatusOK || !bytes.Equal(got, want) {
			t.Errorf("%s: status %d with %d bytes, want the %d bytes of %s", path, res.StatusCode, len(got), len(want), name)
		}
		wantHeader(t, res, "Content-Type", "text/plain; charset=utf-8")
		wantHeader(t, res, "Cache-Control", "no-cache")

		tag := http.Header{"If-None-Match": {res.Header.Get("Etag")}}
		if again, body := fetch(t, http.MethodGet, path, tag); again.StatusCode != http.StatusNotModified || len(body) != 0 {
			t.Errorf("%s with its own ETag: status %d with %d bytes, want 304 and none", path, again.StatusCode, len(body))
		}
		if head, body := fetch(t, http.MethodHead, path, nil); head.ContentLength != int64(len(want)) || len(body) != 0 {
			t.Errorf("HEAD %s: announces %d bytes and sends %d", path, head.ContentLength, len(body))
		}
	}
}

// Every proto of the API is served, and everything that one of them imports is served as well or
// comes with protoc.
func TestTheProtosThatAreServedAreComplete(t *testing.T) {
	for _, pattern := range []string{"../proto/*.proto", "../proto/roster/*/*.proto"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(names), err)
		}
		for _, name := range names {
			path := filepath.ToSlash(name)[len("../proto"):]
			if res, _ := fetch(t, http.MethodGet, path, nil); res.StatusCode != http.StatusOK {
				t.Errorf("%s is not served: status %d", path, res.StatusCode)
			}
		}
	}
	imports := regexp.MustCompile(`(?m)^import (?:public )?"(.+)";`)
	for path := range served {
		_, source := fetch(t, http.MethodGet, path, nil)
		for _, match := range imports.FindAllSubmatch(source, -1) {
			name := string(match[1])
			if strings.HasPrefix(name, "google/protobuf/") {
				continue
			}
			if res, _ := fetch(t, http.MethodGet, "/"+name, nil); res.StatusCode != http.StatusOK {
				t.Errorf("%s imports %s, which is not served: status %d", path, name, res.StatusCode)
			}
		}
	}
}
