package h2

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// commonNames are the canonical names of the header fields that browsers, command-line clients and
// servers send. Config.KnownHeaders adds to them.
const commonNames = "Accept Accept-Charset Accept-Encoding Accept-Language Accept-Ranges " +
	"Access-Control-Allow-Credentials Access-Control-Allow-Headers Access-Control-Allow-Methods " +
	"Access-Control-Allow-Origin Access-Control-Expose-Headers Access-Control-Max-Age " +
	"Access-Control-Request-Headers Access-Control-Request-Method Age Allow Authorization " +
	"Cache-Control Content-Disposition Content-Encoding Content-Language Content-Length " +
	"Content-Location Content-Range Content-Type Cookie Date Dnt Etag Expect Expires Forwarded " +
	"From Host If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since " +
	"Last-Modified Link Location Max-Forwards Origin Pragma Priority Proxy-Authenticate " +
	"Proxy-Authorization Range Referer Refresh Retry-After Sec-Ch-Ua Sec-Ch-Ua-Mobile " +
	"Sec-Ch-Ua-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Server " +
	"Set-Cookie Strict-Transport-Security Te Traceparent Tracestate Trailer Transfer-Encoding " +
	"Upgrade-Insecure-Requests User-Agent Vary Via Www-Authenticate X-Content-Type-Options " +
	"X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Real-Ip X-Request-Id"

// KnownHeader describes a header or trailer field that the handlers or the clients of a server use
// often. See [Config.KnownHeaders].
type KnownHeader struct {
	// Name is the name of the field. It is not case-sensitive.
	Name string

	// Trailer says that handlers send the field as a trailer in most replies. Configure checks that
	// it may be one (RFC 9110 §6.5.1), so that not every reply needs to.
	Trailer bool

	// RarelyRepeats says that two replies seldom have the same value, as is true of identifiers and
	// error messages. Such a value is sent as a literal that stays out of HPACK's dynamic table
	// (RFC 7541 §6.2.3), where it would displace values that do repeat. An empty value counts as
	// one that repeats.
	RarelyRepeats bool

	// NoContentLength says that a reply with this field, among its header fields or its trailers,
	// is sent without a Content-Length unless the handler sets one. Other short replies get one as
	// those of net/http do. It is meant for protocols that have a length of their own inside the
	// body and show their callers every header field that they do not know.
	NoContentLength bool
}

// nameTable maps field names between the lower case of the wire and the canonical form of
// http.Header, and knows what Config.KnownHeaders says about them. It is read-only.
type nameTable struct {
	canonical map[string]string // from lower case
	lower     map[string]string // from canonical

	// Of Config.KnownHeaders, in canonical form. They are lists because each has a name or two, for
	// which comparing costs less than a look-up.
	trailers        []string
	rarelyRepeat    []string
	noContentLength []string
}

func newNameTable(known []KnownHeader) (nameTable, error) {
	t := nameTable{canonical: make(map[string]string), lower: make(map[string]string)}
	for name := range strings.SplitSeq(commonNames, " ") {
		t.add(name)
	}
	for _, h := range known {
		if !validWireName(lowerName(h.Name)) {
			return t, fmt.Errorf("h2: Config.KnownHeaders has %q, which is not a field name", h.Name)
		}
		name := textproto.CanonicalMIMEHeaderKey(h.Name)
		t.add(name)
		if h.Trailer {
			if !httpguts.ValidTrailerHeader(name) {
				return t, fmt.Errorf(
					"h2: Config.KnownHeaders has the trailer %s, which may not be a trailer (RFC 9110 §6.5.1)", name)
			}
			t.trailers = append(t.trailers, name)
		}
		if h.RarelyRepeats {
			t.rarelyRepeat = append(t.rarelyRepeat, name)
		}
		if h.NoContentLength {
			t.noContentLength = append(t.noContentLength, name)
		}
	}
	return t, nil
}

func (t *nameTable) add(name string) {
	lower := lowerName(name)
	t.canonical[lower] = name
	if !connectionSpecific(lower) {
		t.lower[name] = lower
	}
}

// connectionSpecific reports whether a field, its name in lower case, belongs to a connection of
// HTTP/1.1, so that it must not be sent (RFC 9113 §8.2.2).
func connectionSpecific(lower string) bool {
	switch lower {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// canonicalOdd returns the canonical form of a name in a handler's header map that is not canonical
// but means something to the engine, such as "content-length".
func canonicalOdd(name string) (key string, odd bool) {
	switch len(name) {
	case 4:
		key = "Date"
	case 7:
		key = "Trailer"
	case 10:
		key = "Connection"
	case 12:
		key = "Content-Type"
	case 14:
		key = "Content-Length"
	case 16:
		key = "Content-Encoding"
	default:
		return name, false
	}
	if name == key || !strings.EqualFold(name, key) {
		return name, false
	}
	return key, true
}

// trailer returns the canonical form of a name, and whether a trailer can have it (RFC 9110
// §6.5.1).
func (t *nameTable) trailer(name string) (key string, ok bool) {
	if slices.Contains(t.trailers, name) {
		return name, true
	}
	key = http.CanonicalHeaderKey(name)
	return key, httpguts.ValidTrailerHeader(key)
}

// rarelyRepeats reports whether the field is of a kind whose values rarely repeat.
func (t *nameTable) rarelyRepeats(f field) bool {
	switch f.name {
	case "Content-Length", "Content-Range", "Etag", "Expires", "Last-Modified", "Location", "Set-Cookie",
		"Traceparent", "X-Request-Id":
		return true
	}
	return f.value != "" && slices.Contains(t.rarelyRepeat, f.name)
}

// wantsLength reports whether a reply may get a Content-Length that its handler has not set.
func (t *nameTable) wantsLength(header, trailer []field) bool {
	for _, name := range t.noContentLength {
		if hasField(header, name) || hasField(trailer, name) {
			return false
		}
	}
	return true
}

// toWire returns name in lower case, as it is sent, and whether it may be sent.
func (t *nameTable) toWire(name string) (string, bool) {
	if lower, ok := t.lower[name]; ok {
		return lower, true
	}
	lower := lowerName(name)
	return lower, validWireName(lower) && !connectionSpecific(lower)
}

func lowerName(name string) string {
	for i := 0; i < len(name); i++ {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			b := []byte(name)
			for ; i < len(b); i++ {
				if c := b[i]; 'A' <= c && c <= 'Z' {
					b[i] = c + 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return name
}

// validWireName reports whether name is a field name in lower case (RFC 9113 §8.2.1).
func validWireName(name string) bool {
	if name == "" {
		return false
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c >= 0x80 || 'A' <= c && c <= 'Z' || !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	return true
}

// bodyAllowed reports whether a reply of this status may have a body (RFC 9110 §6.4.1).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
