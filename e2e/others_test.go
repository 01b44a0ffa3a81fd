package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// suite runs another language's tests against the binary, its output in ours.
func suite(t *testing.T, command *exec.Cmd, environment ...string) {
	t.Helper()
	command.Env = append(os.Environ(), environment...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		t.Fatalf("%v: %v", command.Args, err)
	}
}

func TestPythonNewestGRPC(t *testing.T) { python(t, need(t, "ROSTER_E2E_NEWEST")) }

func TestPythonOldestGRPC(t *testing.T) { python(t, need(t, "ROSTER_E2E_OLDEST")) }

func python(t *testing.T, venv string) {
	suite(t, exec.Command(filepath.Join(venv, "bin", "python"), "-m", "pytest", "-q", "python"),
		"ROSTER_BIN="+binary, "ROSTER_E2E_TLS="+newCredentials(t).folder)
}

func TestBrowser(t *testing.T) {
	web := need(t, "ROSTER_E2E_WEB")
	_, address := serve(t)
	command := exec.Command("npm", "run", "--silent", "e2e")
	command.Dir = web
	suite(t, command, "ROSTER_URL=http://"+address, "ROSTER_BIN="+binary)
}

// The libraries of others that speak gRPC-Web, in its text mode by default.
func TestOtherGRPCWebClients(t *testing.T) {
	folder := need(t, "ROSTER_E2E_GRPCWEB")
	_, address := serve(t)
	command := exec.Command("npm", "test", "--silent")
	command.Dir = folder
	suite(t, command, "ROSTER_URL=http://"+address)
}

// The page over TLS, in a browser that trusts this one server's key.
func TestBrowserOverTLS(t *testing.T) {
	web := need(t, "ROSTER_E2E_WEB")
	c := newCredentials(t)
	p, url := serveTLS(t, c)
	key := sha256.Sum256(c.pair.TLS(t).Leaf.RawSubjectPublicKeyInfo)
	command := exec.Command("npm", "run", "--silent", "e2e:tls")
	command.Dir = web
	suite(t, command, "ROSTER_URL="+url, "ROSTER_SPKI="+base64.StdEncoding.EncodeToString(key[:]), "NODE_EXTRA_CA_CERTS="+c.file("ca.pem"))
	if strings.Contains(p.log(), "TLS handshake failed") {
		t.Errorf("logged %s", p.log())
	}
}
