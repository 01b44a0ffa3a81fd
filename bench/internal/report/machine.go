// Package report writes what was measured into docs/benchmarks.md and
// docs/benchmarks.svg.
package report

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// Header says how, when and on what numbers were made.
type Header struct {
	// Command makes them again.
	Command string
	Date    string
	Commit  string
	// Load is the machine's load average before the run: what else it was doing.
	Load     string
	Machine  string
	Versions []string
}

// NewHeader looks at the machine. Python is the folder of the virtual
// environment with the Python peer.
func NewHeader(command, date, python string) Header {
	h := Header{Command: command, Date: date, Commit: output("git", "describe", "--always", "--dirty", "--exclude=*")}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		h.Load = strings.Join(strings.Fields(string(load))[:3], " ")
	}
	kernel, _, _ := strings.Cut(output("uname", "-r"), "-")
	h.Machine = field("/proc/cpuinfo", "model name") + ", " + strconv.Itoa(runtime.NumCPU()) + " cores, " +
		memory() + ", Linux " + kernel
	h.Versions = []string{"Go " + strings.TrimPrefix(runtime.Version(), "go")}
	if info, ok := debug.ReadBuildInfo(); ok {
		names := map[string]string{
			"google.golang.org/grpc":                    "grpc-go",
			"connectrpc.com/connect":                    "connect-go",
			"github.com/grpc-ecosystem/grpc-gateway/v2": "grpc-gateway",
		}
		for _, dependency := range info.Deps {
			if name, ok := names[dependency.Path]; ok {
				h.Versions = append(h.Versions, name+" "+strings.TrimPrefix(dependency.Version, "v"))
			}
		}
	}
	for _, tool := range []struct {
		name    string
		pattern string
		command []string
	}{
		{"grpcio", `([0-9.]+)`, []string{filepath.Join(python, "bin", "python"), "-c", "import grpc; print(grpc.__version__)"}},
		{"Python", `([0-9.]+)`, []string{filepath.Join(python, "bin", "python"), "--version"}},
		{"nginx", `nginx/([0-9.]+)`, []string{"/usr/sbin/nginx", "-v"}},
		{"h2load", `nghttp2/([0-9.]+)`, []string{"h2load", "--version"}},
		{"sqlite3 shell", `^([0-9.]+)`, []string{"sqlite3", "--version"}},
	} {
		if found := regexp.MustCompile(tool.pattern).FindStringSubmatch(output(tool.command...)); found != nil {
			h.Versions = append(h.Versions, tool.name+" "+found[1])
		}
	}
	if lock, err := os.ReadFile("bench/tonic/Cargo.lock"); err == nil {
		if found := regexp.MustCompile(`name = "tonic"\nversion = "([^"]+)"`).FindSubmatch(lock); found != nil {
			h.Versions = append(h.Versions, "tonic "+string(found[1]))
		}
	}
	return h
}

// output is what a command prints, nothing if it cannot be run: a version less
// in the page is no reason to lose a run.
func output(command ...string) string {
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func memory() string {
	kilobytes, err := strconv.ParseFloat(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 64)
	if err != nil {
		return "unknown memory"
	}
	return strconv.FormatFloat(kilobytes/(1<<20), 'f', 0, 64) + " GiB"
}
