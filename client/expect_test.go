package client_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"example.com/roster/client"
)

// expect fails the test unless err is a *client.Error with this reason and code.
func expect(t *testing.T, err error, reason client.Reason, code connect.Code) *client.Error {
	t.Helper()
	var failure *client.Error
	if !errors.As(err, &failure) {
		t.Fatalf("error = %v (%T), want a *client.Error", err, err)
	}
	if failure.Reason != reason {
		t.Errorf("reason = %q, want %q\nin: %v", failure.Reason, reason, err)
	}
	if got := connect.CodeOf(err); got != code {
		t.Errorf("code = %v, want %v\nin: %v", got, code, err)
	}
	if failure.Address == "" || !strings.Contains(err.Error(), failure.Address) {
		t.Errorf("the error does not name the address %q: %v", failure.Address, err)
	}
	t.Log(err)
	return failure
}

func expectText(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error = %v, want one with %q", err, want)
	}
}

func expectIs(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("errors.Is(%v, %v) = false", err, target)
	}
}

// relisten listens on an address whose listener was just closed.
func relisten(address string) (net.Listener, error) {
	for deadline := time.Now().Add(5 * time.Second); ; {
		listener, err := net.Listen("tcp", address)
		if err == nil || time.Now().After(deadline) {
			return listener, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
