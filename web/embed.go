// Package web is the page of Roster, which looks users up in a browser over Connect or gRPC-Web, and
// the contracts that callers compile. Both are served at the address of the RPCs.
//
// It serves the files of dist, which Vite builds from src and the repository keeps, so that a Go
// build needs no Node; and the protos of the API at their import paths, so that
// "curl -O http://localhost:50051/api.proto" is all that a Python program needs from here.
//
// The package does not serve RPCs. The page calls /MyService/ at its own origin, so the service
// has to be mounted beside it:
//
//	mux := http.NewServeMux()
//	mux.Handle("/", web.Handler())
//	mux.Handle(apipbconnect.NewMyServiceHandler(service))
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"strconv"
	"strings"

	protos "example.com/roster/proto"
	thirdparty "example.com/roster/third_party"
)

//go:embed all:dist
var dist embed.FS

// securityHeaders are sent with every answer. The page may load from and call its own origin only,
// run no inline code, turn no string into script, not be framed, not be reached from the window that
// opened it, and use no device except the clipboard, for writing. X-Frame-Options is left out because
// frame-ancestors says the same.
var securityHeaders = http.Header{
	"Content-Security-Policy": {"default-src 'none'; script-src 'self'; style-src 'self'; " +
		"img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; " +
		"frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"},
	"Cross-Origin-Opener-Policy":   {"same-origin"},
	"Cross-Origin-Resource-Policy": {"same-origin"},
	"Permissions-Policy": {"camera=(), display-capture=(), geolocation=(), hid=(), idle-detection=(), local-fonts=(), " +
		"microphone=(), midi=(), payment=(), publickey-credentials-get=(), screen-wake-lock=(), serial=(), usb=()"},
	"Referrer-Policy":        {"no-referrer"},
	"X-Content-Type-Options": {"nosniff"},
}

// Handler serves the page at / with its files, and the protos: /api.proto,
// /roster/v1/directory.proto and, since that imports it, /buf/validate/validate.proto. All files
// are kept in memory, with a gzipped copy: about half a megabyte.
//
// GET and HEAD of a known path answer 200 or 304, and other methods 405. An unknown path answers
// 404 whatever the method, so that a gRPC client which calls a service that is not mounted reads
// UNIMPLEMENTED.
//
// Files under /assets/ have a hash in their names and may be cached for a year. The others are
// revalidated by their ETag at every load.
func Handler() http.Handler {
	files, err := load(dist)
	if err != nil {
		// The files are compiled in, so this is a broken build.
		panic(fmt.Sprintf("web: the embedded page is incomplete (%v); run npm run build in web/", err))
	}
	return files
}

// site maps a URL path to the file served there.
type site map[string]*file

// file is one file, uncompressed and, where that is smaller, gzipped.
type file struct {
	contentType  string
	cacheControl string
	identity     []byte // uncompressed
	identityTag  string
	gzipped      []byte
	gzippedTag   string
}

func load(dist fs.FS) (site, error) {
	pages, err := fs.Sub(dist, "dist")
	if err != nil {
		return nil, err
	}
	files := site{}
	for _, source := range []fs.FS{pages, protos.Files, thirdparty.Files} {
		if err := files.add(source); err != nil {
			return nil, err
		}
	}
	index, ok := files["/index.html"]
	if !ok {
		return nil, fmt.Errorf("dist/index.html: %w", fs.ErrNotExist)
	}
	files["/"] = index
	return files, nil
}

// add adds every file of source at the path that it has there.
func (s site) add(source fs.FS) error {
	return fs.WalkDir(source, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(source, name)
		if err != nil {
			return err
		}
		s["/"+name], err = newFile(name, content)
		return err
	})
}

func newFile(name string, content []byte) (*file, error) {
	digest := sha256.Sum256(content)
	tag := hex.EncodeToString(digest[:12])
	f := &file{
		contentType:  contentTypeOf(name),
		cacheControl: "no-cache",
		identity:     content,
		identityTag:  `"` + tag + `"`,
	}
	if strings.HasPrefix(name, "assets/") {
		f.cacheControl = "public, max-age=31536000, immutable"
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if packed.Len() < len(content) {
		f.gzipped = packed.Bytes()
		// Other bytes, other strong tag (RFC 9110 §8.8.3.3).
		f.gzippedTag = `"` + tag + `-gzip"`
	}
	return f, nil
}

// contentTypeOf knows the kinds of file that are embedded. mime.TypeByExtension reads a table of the
// machine, so its answers differ from one machine to the next. A proto is text, so that a browser
// shows it and does not download it.
func contentTypeOf(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".md", ".proto", ".txt":
		return "text/plain; charset=utf-8"
	default:
		return "application/octet-stream"
	}
}

func (s site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	maps.Copy(header, securityHeaders)
	f, ok := s[r.URL.Path]
	if !ok {
		http.Error(w, "404: nothing is served at this path; the page is at /", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "405: this path is read with GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	f.serve(w, r)
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	content, tag := f.identity, f.identityTag
	if f.gzipped != nil {
		header.Add("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header) {
			content, tag = f.gzipped, f.gzippedTag
			header.Set("Content-Encoding", "gzip")
		}
	}
	header.Set("Cache-Control", f.cacheControl)
	header.Set("ETag", tag)
	if matchesTag(r.Header.Values("If-None-Match"), tag) {
		header.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Type", f.contentType)
	header.Set("Content-Length", strconv.Itoa(len(content)))
	if r.Method == http.MethodHead {
		return
	}
	// A write fails only if the client has gone, and then there is nobody to report it to.
	_, _ = w.Write(content)
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3). A coding with weight zero is refused. The
// wildcard * does not count as gzip, since an uncompressed answer is always acceptable.
func acceptsGzip(header http.Header) bool {
	for _, value := range header.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(value, ",") {
			name, weight, _ := strings.Cut(coding, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			_, q, weighted := strings.Cut(weight, "=")
			if !weighted {
				return true
			}
			parsed, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
			return err == nil && parsed > 0
		}
	}
	return false
}

// matchesTag compares weakly, as If-None-Match is compared (RFC 9110 §13.1.2).
func matchesTag(values []string, tag string) bool {
	for _, value := range values {
		for candidate := range strings.SplitSeq(value, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == tag {
				return true
			}
		}
	}
	return false
}
