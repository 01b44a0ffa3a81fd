package report

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"example.com/roster/bench/internal/measure"
	"example.com/roster/bench/internal/peer"
)

// Made says by which command, when and on what numbers are made. The load average is that of now:
// what else the machine does.
func Made(command string) string {
	kilobytes, _ := strconv.ParseFloat(find("/proc/meminfo", `MemTotal:\s*(\d+)`), 64)
	return fmt.Sprintf("Made by `%s` on %s, at commit %s. %s, %d cores, %.0f GiB, Linux %s; load average before the run %s.",
		command, time.Now().UTC().Format("2006-01-02 15:04 UTC"), output(".+", "git", "describe", "--always", "--dirty", "--exclude=*"),
		find("/proc/cpuinfo", `model name\s*: (.*)`), runtime.NumCPU(), kilobytes/(1<<20), output("[^-\n]+", "uname", "-r"),
		find("/proc/loadavg", `(\S+ \S+ \S+)`))
}

// versions says what is compared. What has no version here is left out: that is no reason to lose a
// run.
func versions() string {
	list := []string{"Go " + strings.TrimPrefix(runtime.Version(), "go")}
	add := func(name, version string) {
		if version != "" {
			list = append(list, name+" "+version)
		}
	}
	add("grpc-go", find("bench/go.mod", `google.golang.org/grpc v(\S+)`))
	add("connect-go", find("bench/go.mod", `connectrpc.com/connect v(\S+)`))
	interpreter := filepath.Join(peer.PythonPath, "bin", "python")
	add("grpc-gateway", find("bench/go.mod", `grpc-gateway/v2 v(\S+)`))
	add("grpcio", output(`[0-9.]+`, interpreter, "-c", "import grpc; print(grpc.__version__)"))
	add("Python", output(`[0-9.]+`, interpreter, "--version"))
	add("nginx", output(`[0-9.]+`, "nginx", "-v"))
	add("h2load", strings.TrimPrefix(output(`nghttp2/[0-9.]+`, "h2load", "--version"), "nghttp2/"))
	add("sqlite3 shell", output(`^[0-9.]+`, "sqlite3", "--version"))
	add("tonic", find("bench/tonic/Cargo.lock", `name = "tonic"\nversion = "([^"]+)"`))
	return strings.Join(list, ", ")
}

// proxyVersions says the same of make bench-bridge.
func proxyVersions(r *measure.Run) string {
	list := []string{"Go " + strings.TrimPrefix(runtime.Version(), "go"), "grpc-go " + find("bench/go.mod", `google.golang.org/grpc v(\S+)`)}
	for _, program := range []struct{ name, version string }{
		{"Envoy", output(`\d+\.\d+\.\d+`, r.Setup.EnvoyPath, "--version")},
		{"nginx", output(`[0-9.]+`, "nginx", "-v")},
		{"h2load", strings.TrimPrefix(output(`nghttp2/[0-9.]+`, "h2load", "--version"), "nghttp2/")},
	} {
		if program.version != "" {
			list = append(list, program.name+" "+program.version)
		}
	}
	return strings.Join(list, ", ")
}

// output is the first match of a pattern in what a command prints, or nothing.
func output(pattern string, command ...string) string {
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return ""
	}
	return string(regexp.MustCompile(pattern).Find(out))
}

// find is the group of the first match of a pattern in a file, or nothing.
func find(file, pattern string) string {
	text, _ := os.ReadFile(file)
	if found := regexp.MustCompile(pattern).FindSubmatch(text); found != nil {
		return string(found[1])
	}
	return ""
}
