// Package web is the page of Roster: look users up in a browser, over Connect
// or gRPC-Web, at the address that serves everyone else.
//
// It serves the files of dist, which Vite builds from src and the repository
// keeps, so that a Go build needs no Node. It does not speak RPC: the page
// calls /MyService/ at its own origin, and whoever mounts it mounts that too:
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
)

//go:embed all:dist
var dist embed.FS

// securityHeaders are sent with every answer. The page loads and calls nothing
// but its own origin, runs no inline code, makes no script of a string, may not
// be framed, shares no window with who opened it, and asks for no part of the
// machine but to write the clipboard. (X-Frame-Options says no more than
// frame-ancestors does.)
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

// Handler serves the page at / and its files beside it. Everything is held,
// and compressed, in memory: a few hundred kilobytes.
//
// GET and HEAD of a known path answer it; other methods on one answer 405.
// An unknown path is a plain 404 whatever the method, so that a gRPC client
// that calls a service nobody mounted reads UNIMPLEMENTED.
//
// Files under /assets/ carry a hash in their names and may be cached for a
// year; the others are revalidated by their ETag at every load.
func Handler() http.Handler {
	pages, err := load(dist)
	if err != nil {
		// The files are compiled in: only a broken build comes here.
		panic(fmt.Sprintf("web: the embedded page is not whole (%v); run npm run build in web/", err))
	}
	return pages
}

// site maps a URL path to the file served there.
type site map[string]*file

// file is one file of the page, plain and, where that is smaller, gzipped.
type file struct {
	contentType  string
	cacheControl string
	plain        []byte
	plainTag     string
	gzipped      []byte
	gzippedTag   string
}

func load(files fs.FS) (site, error) {
	pages := site{}
	err := fs.WalkDir(files, "dist", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		f, err := newFile(name, content)
		if err != nil {
			return err
		}
		pages[strings.TrimPrefix(name, "dist")] = f
		return nil
	})
	if err != nil {
		return nil, err
	}
	index, ok := pages["/index.html"]
	if !ok {
		return nil, fmt.Errorf("dist/index.html: %w", fs.ErrNotExist)
	}
	pages["/"] = index
	return pages, nil
}

func newFile(name string, content []byte) (*file, error) {
	digest := sha256.Sum256(content)
	tag := hex.EncodeToString(digest[:12])
	f := &file{
		contentType:  contentTypeOf(name),
		cacheControl: "no-cache",
		plain:        content,
		plainTag:     `"` + tag + `"`,
	}
	if strings.HasPrefix(name, "dist/assets/") {
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

// contentTypeOf knows the kinds of file that Vite writes. The machine's own
// table (mime.TypeByExtension) differs from one to the next.
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
	case ".md", ".txt":
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
		http.Error(w, "405: the page is read with GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	f.serve(w, r)
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	content, tag := f.plain, f.plainTag
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
	// A failed write is a reader who left; there is nobody to tell.
	_, _ = w.Write(content)
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3). A coding with weight
// zero is refused; * is not taken for gzip, as plain is never wrong.
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
