package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
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
	suite(t, command, "ROSTER_URL=http://"+address)
}
