package h2

import (
	"net/http"
	"net/textproto"

	"golang.org/x/net/http/httpguts"
)

// commonNames are the canonical names of fields that requests and replies of browsers, curl and RPC clients carry.
const commonNames = "Accept Accept-Charset Accept-Encoding Accept-Language Accept-Ranges Access-Control-Allow-Credentials " +
	"Access-Control-Allow-Headers Access-Control-Allow-Methods Access-Control-Allow-Origin " +
	"Access-Control-Expose-Headers Access-Control-Max-Age Access-Control-Request-Headers " +
	"Access-Control-Request-Method Age Allow Authorization Cache-Control Connect-Accept-Encoding " +
	"Connect-Content-Encoding Connect-Protocol-Version Connect-Timeout-Ms Content-Disposition Content-Encoding " +
	"Content-Language Content-Length Content-Location Content-Range Content-Type Cookie Date Dnt Etag Expect " +
	"Expires Forwarded From Grpc-Accept-Encoding Grpc-Encoding Grpc-Message Grpc-Previous-Rpc-Attempts Grpc-Status " +
	"Grpc-Status-Details-Bin Grpc-Tags-Bin Grpc-Timeout Grpc-Trace-Bin Host If-Match If-Modified-Since If-None-Match " +
	"If-Range If-Unmodified-Since Last-Modified Link Location Max-Forwards Origin Pragma Priority Proxy-Authenticate " +
	"Proxy-Authorization Range Referer Refresh Retry-After Sec-Ch-Ua Sec-Ch-Ua-Mobile Sec-Ch-Ua-Platform " +
	"Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Server Set-Cookie Strict-Transport-Security Te " +
	"Traceparent Tracestate Trailer Transfer-Encoding Upgrade-Insecure-Requests User-Agent Vary Via " +
	"Www-Authenticate X-Content-Type-Options X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Grpc-Web " +
	"X-Real-Ip X-Request-Id X-User-Agent"

// nameTable maps field names between the wire's lower case and the canonical form of http.Header. It is read only.
type nameTable struct {
	canonical map[string]string // from lower case
	lower     map[string]string // from canonical
}

func newNameTable() nameTable {
	t := nameTable{canonical: make(map[string]string), lower: make(map[string]string)}
	start := 0
	for i := 0; i <= len(commonNames); i++ {
		if i < len(commonNames) && commonNames[i] != ' ' {
			continue
		}
		name := commonNames[start:i]
		lower := lowerName(name)
		t.canonical[lower], t.lower[name] = name, lower
		start = i + 1
	}
	return t
}

// toWire returns the form of name that goes on the wire, or false if it cannot be a field name.
func (t *nameTable) toWire(name string) (string, bool) {
	if lower, ok := t.lower[name]; ok {
		return lower, true
	}
	lower := lowerName(name)
	return lower, validWireName(lower)
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

// maxLearnedNames and maxLearnedLength bound the uncommon names that a connection remembers.
const (
	maxLearnedNames  = 32
	maxLearnedLength = 100
)

// canonicalName returns the http.Header key for a valid field name from the wire.
func (c *conn) canonicalName(wire string) string {
	if name, ok := c.srv.names.canonical[wire]; ok {
		return name
	}
	if name, ok := c.learned[wire]; ok {
		return name
	}
	name := textproto.CanonicalMIMEHeaderKey(wire)
	if len(c.learned) < maxLearnedNames && len(wire) <= maxLearnedLength {
		if c.learned == nil {
			c.learned = make(map[string]string)
		}
		c.learned[wire] = name
	}
	return name
}

// bodyAllowed reports whether a reply of this status may have a body (RFC 9110 §6.4.1).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
