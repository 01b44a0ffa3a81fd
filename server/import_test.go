package server

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
	"example.com/roster/server/service"
)

// importRows imports users with the ids 1 to n.
func importRows(t *testing.T, c rosterv1connect.DirectoryServiceClient, n int) (*rosterv1.ImportUsersResponse, error) {
	t.Helper()
	stream, err := c.ImportUsers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for id := 1; id <= n; {
		message := &rosterv1.ImportUsersRequest{}
		for ; id <= n && len(message.GetUsers()) < 500; id++ {
			message.Users = append(message.Users, &rosterv1.User{Id: int32(id), Name: fmt.Sprint("User ", id)})
		}
		if stream.Send(message) != nil {
			break // the reply says why
		}
	}
	return stream.CloseAndReceive()
}

// wantNothingImported checks that a failed import has left nothing, not even a file, and that the next one works.
func wantNothingImported(t *testing.T, c rosterv1connect.DirectoryServiceClient, temporary string) {
	t.Helper()
	if state := stateOf(t, c); len(state.GetUsers()) > 0 || state.GetRevision() > 0 {
		t.Errorf("something was imported: %v", state)
	}
	if files, err := filepath.Glob(filepath.Join(temporary, "roster-import-*")); err != nil || len(files) > 0 {
		t.Errorf("%v, %v were left", files, err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		reply, err := importRows(t, c, 10)
		if err == nil && reply.GetCreated() == 10 {
			return
		}
		// The import before has answered, and may not have ended.
		if connect.CodeOf(err) != connect.CodeUnavailable || time.Now().After(deadline) {
			t.Fatalf("the next import: %v, %v", reply, err)
		}
	}
}

// temporaryFolder is where imports of a test keep their rows.
func temporaryFolder(t *testing.T) string {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	return folder
}

func TestAnImportThatIsTooLong(t *testing.T) {
	for name, options := range directoryProtocols {
		t.Run(name, func(t *testing.T) {
			temporary := temporaryFolder(t)
			c, _ := users(t, Config{imports: service.ImportLimits{Bytes: 10_000}}, options...)
			_, err := importRows(t, c, 2000)
			wantError(t, err, connect.CodeResourceExhausted, "the import is longer than 10000 bytes, the maximum of a call (a fixed limit, no flag): "+
				"split it over several, or run roster import on the machine of the store")
			wantNothingImported(t, c, temporary)
		})
	}
}

func TestAnImportWithoutAFolderForItsRows(t *testing.T) {
	temporary := temporaryFolder(t)
	c, p := users(t, Config{}, connect.WithGRPC())
	t.Setenv("TMPDIR", filepath.Join(temporary, "missing"))
	_, err := importRows(t, c, 10)
	wantError(t, err, connect.CodeUnavailable, noRoom)
	if !strings.Contains(p.log.String(), "the rows of an import cannot be kept") {
		t.Errorf("the log says %s", p.log)
	}
	if os.Geteuid() != 0 { // who may write anywhere
		if err := os.Chmod(temporary, 0o500); err != nil {
			t.Fatal(err)
		}
		t.Setenv("TMPDIR", temporary)
		_, err := importRows(t, c, 10)
		wantError(t, err, connect.CodeUnavailable, noRoom)
		if err := os.Chmod(temporary, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TMPDIR", temporary)
	wantNothingImported(t, c, temporary)
}

const noRoom = "this server cannot keep the rows of the import until all have come, since its folder for temporary files is full or cannot be written: nothing was imported"

// An import whose caller pauses too long, or sends for too long, is ended. It counts when everything has come, and
// not when the last byte did: who sends byte by byte holds up the next import no longer than others.
func TestAnImportTakesItsTime(t *testing.T) {
	message, err := proto.Marshal(&rosterv1.ImportUsersRequest{Users: []*rosterv1.User{{Id: 1, Name: "Ann"}, {Id: 2, Name: "Ben"}}})
	if err != nil {
		t.Fatal(err)
	}
	whole := envelope(0, message)
	quiet, late := service.ImportLimits{Quiet: 300 * time.Millisecond, Time: time.Hour}, service.ImportLimits{Quiet: time.Hour, Time: 300 * time.Millisecond}
	for name, test := range map[string]struct {
		limits service.ImportLimits
		send   func(to io.Writer) error // again and again
		words  string
	}{
		"quiet":        {quiet, func(io.Writer) error { return io.EOF }, "no message for 300ms: call again; nothing was imported"},
		"too late":     {late, func(io.Writer) error { return io.EOF }, tooLate},
		"byte by byte": {late, oneByte(append(whole[:0:0], 0, 0, 0, 255, 255)), tooLate},
		"many rows":    {late, func(to io.Writer) error { _, err := to.Write(whole); return err }, tooLate},
	} {
		for _, protocol := range []struct {
			contentType string
			http2       bool
		}{{"application/grpc", true}, {"application/connect+proto", true}, {"application/connect+proto", false}, {"application/grpc-web+proto", false}} {
			for _, standard := range []bool{false, true} {
				if name == "many rows" && !protocol.http2 {
					continue // who goes on sending over HTTP/1.1 may lose the reply: the connection is closed
				}
				t.Run(fmt.Sprint(name, " ", protocol.contentType, " HTTP/2 ", protocol.http2, " standard ", standard), func(t *testing.T) {
					temporary := temporaryFolder(t)
					c, p := users(t, Config{imports: test.limits, StandardHTTP2: standard})
					body, sending := io.Pipe()
					go func() {
						if _, err := sending.Write(whole); err != nil {
							return
						}
						for test.send(sending) == nil {
						}
						// The pipe stays open: more could come.
					}()
					defer body.Close()
					response, text := p.post(protocol.http2, rosterv1connect.DirectoryServiceImportUsersProcedure, protocol.contentType, body, "Te", "trailers")
					said := text + response.Header.Get("Grpc-Message")
					if response.StatusCode != http.StatusOK || !strings.Contains(said, test.words) {
						t.Errorf("%d %v\n%s", response.StatusCode, response.Header, said)
					}
					if protocol.contentType == "application/grpc" && response.Header.Get("Grpc-Status") != "4" {
						t.Errorf("the status is %s", response.Header.Get("Grpc-Status"))
					}
					wantNothingImported(t, c, temporary)
				})
			}
		}
	}
}

const tooLate = "the messages did not all come in 300ms, the longest that a call of this method may take (a fixed limit, no flag): " +
	"split them over several calls; nothing was imported"

// oneByte sends a message byte by byte, and then zeros.
func oneByte(message []byte) func(io.Writer) error {
	at := 0
	return func(to io.Writer) error {
		next := []byte{0}
		if at < len(message) {
			next[0] = message[at]
		}
		at++
		time.Sleep(20 * time.Millisecond)
		_, err := to.Write(next)
		return err
	}
}
