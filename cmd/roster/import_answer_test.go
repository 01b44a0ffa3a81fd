package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"

	rosterv1 "example.com/roster/gen/go/roster/v1"
	"example.com/roster/gen/go/roster/v1/rosterv1connect"
)

// lossy is a server that takes the users of some changes, and breaks the connection in the place of the
// next answer, or refuses.
type lossy struct {
	rosterv1connect.UnimplementedDirectoryServiceHandler
	answers int
	refuse  error
}

func (l *lossy) ImportUsers(_ context.Context, stream *connect.ClientStream[rosterv1.ImportUsersRequest]) (*rosterv1.ImportUsersResponse, error) {
	count := int64(0)
	for stream.Receive() {
		count += int64(len(stream.Msg().GetUsers()))
	}
	if l.answers--; l.answers >= 0 {
		return &rosterv1.ImportUsersResponse{Imported: count, Created: count}, nil
	}
	if l.refuse != nil {
		return nil, l.refuse
	}
	panic(http.ErrAbortHandler)
}

// An import says what is known of its end: a change whose answer was lost may have been made.
func TestAnImportWhoseAnswerIsLost(t *testing.T) {
	const notKnown, nothing = "whether the users were imported is not known", "nothing was imported"
	full := connect.NewError(connect.CodeUnavailable, context.Canceled)
	for name, test := range map[string]struct {
		server lossy
		flags  []string
		want   string
	}{
		"the connection breaks after all users":  {lossy{}, nil, notKnown},
		"the server refuses":                     {lossy{refuse: full}, nil, nothing},
		"after the first batch":                  {lossy{}, []string{"--batch-rows", "10"}, notKnown},
		"after the second batch":                 {lossy{answers: 1}, []string{"--batch-rows", "10"}, "go on with --skip-rows 10"},
		"after the last batch, which is smaller": {lossy{answers: 2}, []string{"--batch-rows", "10"}, "go on with --skip-rows 20"},
		"nobody listens":                         {lossy{answers: -100}, []string{"--server", "http://127.0.0.1:1"}, nothing},
	} {
		t.Run(name, func(t *testing.T) {
			server := test.server
			_, handler := rosterv1connect.NewDirectoryServiceHandler(&server)
			web := httptest.NewUnstartedServer(handler)
			web.Config.Protocols = new(http.Protocols)
			web.Config.Protocols.SetUnencryptedHTTP2(true)
			web.Start()
			defer web.Close()
			arguments := append([]string{"--server", web.URL, "--format", "csv", "-"}, test.flags...)
			text := "id,name,age,email\n" + strings.Repeat("1,Ann,1,\n", 25)
			code, stderr := importFrom(t.Context(), strings.NewReader(text), arguments...)
			if code != 1 || !strings.Contains(stderr, test.want) {
				t.Errorf("exit %d: %s\nwant %q", code, stderr, test.want)
			}
			if test.want != nothing && strings.Contains(stderr, nothing) {
				t.Errorf("it claims that %s: %s", nothing, stderr)
			}
		})
	}
}
