// Package rooms holds no code. Its test holds the imports of the module to the order that
// docs/design.md describes.
package rooms

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "example.com/roster/"

// allowed says what each package may import of this module, directly or not: exactly these packages
// and, where an entry ends with "/...", all below it. A package that is not here is an error, so
// that a new one is given its place.
//
// The order, from top to bottom: cmd; server; gate, conn, service, bridge, telemetry; rpc; and the ground that
// knows nothing of calls.
var allowed = map[string][]string{
	"cmd/roster": {"..."}, // it wires everything

	"server":           {"server/...", "directory", "web", "gen/...", "proto", "third_party", "internal/..."},
	"server/gate":      {"server/rpc", "server/auth", "server/tlsfile", "server/drain", "server/h2", "server/internal/follow", "internal/..."},
	"server/bridge":    {"server/rpc", "server/drain", "internal/..."},
	"server/conn":      {"server/rpc", "internal/..."},
	"server/service":   {"server/rpc", "server/drain", "directory", "gen/...", "internal/..."},
	"server/telemetry": {"server/rpc", "server/h2", "directory", "internal/..."},

	"server/rpc":              {},
	"server/rpc/rpctest":      {"server/rpc"},
	"server/h2":               {},
	"server/h2/h2test":        {},
	"server/admin":            {"internal/loopback"},
	"server/auth":             {"server/internal/follow"},
	"server/tlsfile":          {"server/internal/follow"},
	"server/tlsfile/certtest": {},
	"server/drain":            {},
	"server/listen":           {"internal/unixaddr"},
	"server/internal/follow":  {},

	"directory":           {},
	"directory/sqlite":    {"directory", "directory/sqlite/..."},
	"directory/storetest": {"directory"},
	"directory/userfile":  {"directory"},

	"client":                   {"client/internal/...", "gen/...", "internal/..."},
	"client/internal/diagnose": {"client/internal/dial", "gen/..."},
	"client/internal/dial":     {},

	"internal/inflate":   {},
	"internal/lograte":   {},
	"internal/loopback":  {},
	"internal/nearest":   {},
	"internal/printable": {},
	"internal/rooms":     {},
	"internal/unixaddr":  {},

	"web":         {"proto", "third_party"},
	"proto":       {},
	"third_party": {},
	"examples":    {},
	"e2e":         {"..."},
	"e2e/faults":  {"..."},

	"e2e/faults/powercut": {},
}

func TestImportsPointOneWay(t *testing.T) {
	list := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Deps}} {{.}}{{end}}`, module+"...")
	output, err := list.Output()
	if err != nil {
		t.Fatalf("%v: %v", list, err)
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(string(output)) {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(fields[0], module)
		if strings.HasPrefix(name, "gen/") {
			continue // generated code imports generated code
		}
		seen[name] = true
		may, ok := allowed[name]
		if !ok {
			t.Errorf("%s has no place in the order of imports: give it one in this test, and in docs/design.md", name)
			continue
		}
		for _, imported := range fields[1:] {
			dependency, ours := strings.CutPrefix(imported, module)
			if ours && dependency != name && !matches(may, dependency) {
				t.Errorf("%s imports %s, directly or not, which the order does not allow", name, dependency)
			}
		}
	}
	for name := range allowed {
		if !seen[name] {
			t.Errorf("%s is in the order of imports and does not exist", name)
		}
	}
}

func matches(patterns []string, name string) bool {
	for _, pattern := range patterns {
		if prefix, below := strings.CutSuffix(pattern, "..."); below && strings.HasPrefix(name, prefix) || pattern == name {
			return true
		}
	}
	return false
}
