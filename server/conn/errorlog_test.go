package conn

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A scanner writes no more than a few lines, and hides no other kind.
func TestTheErrorLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		buffer := &bytes.Buffer{}
		errors := NewErrorLog(slog.New(slog.NewTextHandler(buffer, nil))).Logger()
		for n := range 1000 {
			errors.Printf("http: TLS handshake error from 192.0.2.1:%d: tls: client offered only unsupported versions: [301]", n)
		}
		errors.Printf("http: panic serving 192.0.2.1:9: oops\ngoroutine 1 [running]:\nmain.main()")
		errors.Printf("http: Accept error: accept: too many open files; retrying in 5ms")
		errors.Printf("http: TLS handshake error from 192.0.2.1:9: EOF")
		said := buffer.String()
		if strings.Count(said, "\n") != logBurst+2 {
			t.Errorf("logged %d lines: %s", strings.Count(said, "\n"), said)
		}
		for _, want := range []string{
			`level=WARN msg="TLS handshake failed" remote=192.0.2.1:0 error="tls: client offered only unsupported versions: [301]" hint="the client must speak TLS 1.2 or later"`,
			`level=ERROR msg="a request made the server panic" request="192.0.2.1:9: oops" stack="goroutine 1 [running]:\nmain.main()"`,
			`level=WARN msg="Accept error: accept: too many open files; retrying in 5ms"`,
		} {
			if !strings.Contains(said, want) {
				t.Errorf("no %s in %s", want, said)
			}
		}
		time.Sleep(logEvery)
		errors.Printf("http: TLS handshake error from 192.0.2.1:10: whatever")
		if said := buffer.String(); !strings.Contains(said, "left_out="+strconv.Itoa(1000-logBurst)) {
			t.Errorf("logged %s", said)
		}
	})
}
