package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.com/roster/client"
	"example.com/roster/gen/go/apipb"
)

// refusing returns a service that answers every look-up with an error that has a detail.
func refusing(code connect.Code, text string, detail proto.Message, calls *int) service {
	return service{user: func(context.Context, []int32) (*apipb.UserReply, error) {
		*calls++
		err := connect.NewError(code, errors.New(text))
		packed, failed := connect.NewErrorDetail(detail)
		if failed != nil {
			panic(failed)
		}
		err.AddDetail(packed)
		return nil, err
	}}
}

func violation(field, description string) *errdetails.BadRequest_FieldViolation {
	return &errdetails.BadRequest_FieldViolation{Field: field, Description: description, Reason: "RULE"}
}

func TestViolationsAreMentionedOnce(t *testing.T) {
	var many errdetails.BadRequest
	for i := range 20 {
		many.FieldViolations = append(many.FieldViolations, violation(fmt.Sprintf("ids[%d]", i), "must be odd"))
	}
	tests := []struct {
		name, text string
		bad        *errdetails.BadRequest
		want       string
	}{
		{"in the text already", "ids: must not be empty", &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			violation("ids", "must not be empty")}}, "[INVALID_ARGUMENT: ids: must not be empty]"},
		{"in the details alone", "bad request", &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			violation("ids[3]", "must be odd"), violation("", "is too early")}}, "[INVALID_ARGUMENT: bad request; ids[3]: must be odd; is too early]"},
		{"many", "bad request", &many, "bad request; ids[0]: must be odd; ids[1]: must be odd; ids[2]: must be odd; ids[3]: must be odd; ids[4]: must be odd; and 15 more]"},
	}
	for _, test := range tests {
		for _, cfg := range configs() {
			t.Run(test.name+", "+name(cfg), func(t *testing.T) {
				var calls int
				server := serveHTTP(t, handler(refusing(connect.CodeInvalidArgument, test.text, test.bad, &calls)))
				_, err := dial(t, server.url, cfg).Users(within(t, 5*time.Second), []int32{1})
				var failure *client.Error
				if !errors.As(err, &failure) || !strings.HasSuffix(err.Error(), test.want) {
					t.Fatalf("got %v\nwant %s", err, test.want)
				}
				var want []client.Violation
				for _, v := range test.bad.GetFieldViolations() {
					want = append(want, client.Violation{Field: v.GetField(), Description: v.GetDescription(), Reason: "RULE"})
				}
				if got := failure.Violations(); !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
				if failure.RetryAfter() != 0 || calls != 1 {
					t.Errorf("retry after %v, %d calls", failure.RetryAfter(), calls)
				}
			})
		}
	}
}

func TestALookUpIsRetriedWhenTheServerAsksForIt(t *testing.T) {
	for _, cfg := range configs() {
		t.Run(name(cfg), func(t *testing.T) {
			t.Parallel()
			var calls int
			server := serveHTTP(t, handler(refusing(connect.CodeUnavailable, "busy",
				&errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)}, &calls)))
			began := time.Now()
			_, err := dial(t, server.url, cfg).Users(within(t, 5*time.Second), []int32{1})
			took := time.Since(began)
			var failure *client.Error
			if !errors.As(err, &failure) || failure.RetryAfter() != 3*time.Second ||
				!strings.Contains(err.Error(), "the server says it is unavailable; try again in 3s") {
				t.Fatalf("got %v", err)
			}
			if calls != 2 || took < 3*time.Second {
				t.Errorf("%d calls in %v, want 2 with 3s between", calls, took)
			}
		})
	}
}
