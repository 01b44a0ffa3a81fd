package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commands calls f with every command that can be run.
func commands(f func(*cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(command *cobra.Command) {
		f(command)
		for _, sub := range command.Commands() {
			walk(sub)
		}
	}
	walk(newRootCommand())
}

func TestServeHelpListsTheFlagsInGroups(t *testing.T) {
	code, help, stderr := roster(t, "serve", "--help")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	_, flags, _ := strings.Cut(help, "\nExamples:\n")
	headings := regexp.MustCompile(`(?m)^(\S.*):$`).FindAllStringSubmatch(flags, -1)
	var got []string
	for _, heading := range headings {
		got = append(got, heading[1])
	}
	want := []string{"Address and store", "TLS", "Access", "Limits", "Behind a proxy", "Browsers", "Other servers", "Restart", "Telemetry", "Flags"}
	if !slices.Equal(got, want) {
		t.Errorf("the groups are %q, want %q", got, want)
	}
	// Each flag once, in the order of the table.
	at := 0
	var f serveFlags
	for _, row := range f.table() {
		line := regexp.MustCompile(`(?m)^      --` + row.name + ` .*` + regexp.QuoteMeta(row.help))
		found := line.FindAllStringIndex(flags, -1)
		if len(found) != 1 || found[0][0] < at {
			t.Errorf("--%s is there %d times, or not in the order of the table", row.name, len(found))
			continue
		}
		at = found[0][0]
	}
}

// A flag that is defined beside the tables would have no group, and no check.
func TestEveryFlagIsInATable(t *testing.T) {
	commands(func(command *cobra.Command) {
		if command.HasSubCommands() || strings.HasPrefix(command.CommandPath(), "roster completion") {
			return
		}
		command.LocalFlags().VisitAll(func(flag *pflag.Flag) {
			if _, ok := flag.Annotations[groupAnnotation]; !ok && flag.Name != "help" {
				t.Errorf("%s --%s is in no table", command.CommandPath(), flag.Name)
			}
			if flag.Usage == "" {
				t.Errorf("%s --%s has no help", command.CommandPath(), flag.Name)
			}
		})
	})
}

// A variable that is no setting is most likely one with a slip in its name.
func TestUnknownVariablesAreWarnedOf(t *testing.T) {
	t.Setenv("ROSTER_MAXBATCH", "5")
	t.Setenv("ROSTER_SOTRE", "x.db")
	t.Setenv("ROSTER_NONSENSE_AT_ALL", "1")
	t.Setenv("ROSTER_SERVICE_HOST", "10.0.0.1") // Kubernetes sets these
	t.Setenv("ROSTER_PORT_50051_TCP", "tcp://10.0.0.1:50051")
	t.Setenv("ROSTER_PORT", "tcp://10.0.0.1:50051")
	t.Setenv("ROSTER_EMPTY", "")
	const (
		batch    = "the environment has ROSTER_MAXBATCH, which is no setting of Roster: did you mean ROSTER_MAX_BATCH?"
		store    = "the environment has ROSTER_SOTRE, which is no setting of Roster: did you mean ROSTER_STORE?"
		nonsense = "the environment has ROSTER_NONSENSE_AT_ALL, which is no setting of Roster"
	)
	s := startServing(t, "--sample", "--log-format", "json")
	s.end()
	var got []string
	for _, entry := range s.lines("the environment has") {
		got = append(got, entry["msg"].(string))
	}
	if want := []string{batch, nonsense, store}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, _, stderr := roster(t, "version"); stderr != "roster: "+batch+"\nroster: "+store+"\n" {
		t.Errorf("got %q", stderr)
	}
}

// What the server runs with is one line, without secrets and with units.
func TestTheSettingsAreOneLine(t *testing.T) {
	t.Setenv("ROSTER_MAX_BATCH", "77")
	s := startServing(t, "--log-format", "json", "--store", filepath.Join(t.TempDir(), "roster.db"), "--drain-timeout", "7s", "--cors-origin", "https://a.example")
	s.end()
	lines := s.lines("settings")
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	for name, want := range map[string]string{"addr": "localhost:0", "max-batch": "77", "drain-timeout": "7s", "max-deadline": "1m0s", "cors-origin": "[https://a.example]", "tokens": ""} {
		if got := lines[0][name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	var f serveFlags
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.String("store", "host=db password=hunter2", "")
	if text := fmt.Sprint(settings(flags, f)); strings.Contains(text, "hunter2") {
		t.Error(text)
	}
	if draining := s.lines("draining"); len(draining) != 1 || draining[0]["timeout"] != "7s" || draining[0]["delay"] != "0s" {
		t.Errorf("%v", draining)
	}
}

func TestServeRefusesWrongFlags(t *testing.T) {
	for arguments, want := range map[string]string{
		"--addr=":                              "--addr is empty: give host:port, or :port for every address of this machine",
		"--http2 slow":                         `--http2 "slow": want fast or std`,
		"--tls-cert c":                         "--tls-cert and --tls-key go together",
		"--tls-key k":                          "--tls-cert and --tls-key go together",
		"--tls-client-ca c":                    "--tls-client-ca needs --tls-cert and --tls-key",
		"--open-reads":                         "--open-reads goes with --tokens",
		"--max-batch 0":                        "--max-batch 0: must be at least 1",
		"--max-batch many":                     `--max-batch many: must be a whole number`,
		"--max-concurrent-calls -1":            "--max-concurrent-calls -1: must be at least 1",
		"--max-watches 0":                      "--max-watches 0: must be at least 1",
		"--max-deadline 0s":                    "--max-deadline 0s: must be more than 0",
		"--rate-limit NaN":                     "--rate-limit NaN: must be 0, which is no limit, or more",
		"--rate-limit +Inf":                    "--rate-limit +Inf: must be 0, which is no limit, or more",
		"--rate-limit 1e-9":                    "--rate-limit 1e-09: is less than a call in a quarter of an hour",
		"--rate-burst -1":                      "--rate-burst -1: must be 0, which is as many as --rate-limit, or more",
		"--rate-burst 5":                       "--rate-burst 5: needs --rate-limit",
		"--cors-origin https://a.example,null": `--cors-origin "null": any page can have the origin null`,
		"--cors-origin=":                       `invalid argument "" for "--cors-origin" flag: it is empty: give a value, or leave out the flag`,
		"--cors-origin https://a.example --cors-origin=":    `invalid argument "" for "--cors-origin" flag: it is empty`,
		"--cors-origin https://a.example,":                  `--cors-origin "": want scheme://host`,
		"--cors-origin https://[2001:DB8:0::1]":             `--cors-origin "https://[2001:DB8:0::1]": browsers write this address as [2001:db8::1]`,
		"--cors-origin http://127.1":                        `--cors-origin "http://127.1": want scheme://host`,
		"--cors-origin https://a..example":                  `--cors-origin "https://a..example": want scheme://host`,
		"--cors-header x-a":                                 "--cors-header goes with --cors-origin",
		"--cors-origin https://a.example --cors-header=":    `invalid argument "" for "--cors-header" flag: it is empty`,
		"--cors-origin https://a.example --cors-header *":   `--cors-header "*": name each header`,
		"--cors-origin https://a.example --cors-header x:y": `--cors-header "x:y": want the name of a header, such as x-request-id`,
		"--trusted-proxies=":                                `invalid argument "" for "--trusted-proxies" flag: it is empty`,
		"--trusted-proxies proxy.example":                   `--trusted-proxies "proxy.example": want an address or a network, such as 127.0.0.1 or 10.0.0.0/8`,
		"--trusted-proxies 10.0.0.0/8,0.0.0.0/0":            `--trusted-proxies "0.0.0.0/0": every caller could then give itself any address`,
		"--trusted-proxies ::/0":                            `--trusted-proxies "::/0": every caller could then give itself any address`,
		"--trusted-proxies 10.1.2.3/8":                      `--trusted-proxies "10.1.2.3/8": is an address within a network: want 10.0.0.0/8`,
		"--trusted-proxies 10.0.0.0/8,":                     `--trusted-proxies "": want an address or a network`,
		"--drain-delay -1s":                                 "--drain-delay -1s: must not be negative",
		"--drain-timeout 0":                                 "--drain-timeout 0s: must be more than 0",
		"--admin-addr 9090":                                 `--admin-addr "9090": want host:port, such as localhost:50051`,
		"--addr :1 --admin-addr :1":                         "--admin-addr is --addr, :1: give it a port of its own",
		"--log-format xml":                                  `--log-format "xml": want text or json`,
		"--log-level loud":                                  `--log-level "loud": want debug, info, warn or error`,
		"--access-log some":                                 `--access-log "some": want all, errors, off, or a number of calls a second`,
		"--access-log -1":                                   `--access-log "-1": want all, errors, off, or a number of calls a second`,
		"--slow-call -1s":                                   "--slow-call -1s: must not be negative",
		"--max-deadline 0s --max-batch 0 --x 1":             "unknown flag: --x",
	} {
		code, stdout, stderr := roster(t, append([]string{"serve"}, strings.Fields(arguments)...)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, want) || !strings.Contains(stderr, "See 'roster serve --help'.") {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, want 2 and %q", arguments, code, stdout, stderr, want)
		}
	}
}

// What is set in the environment is checked as what is set on the command line, which wins.
func TestServeTakesItsFlagsFromTheEnvironment(t *testing.T) {
	t.Setenv("ROSTER_MAX_BATCH", "0")
	t.Setenv("ROSTER_STORE", "")
	if code, _, stderr := roster(t, "serve"); code != 2 || !strings.Contains(stderr, "--max-batch 0: must be at least 1") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if code, _, stderr := roster(t, "serve", "--max-batch", "1", "--slow-call", "-1s"); code != 2 || !strings.Contains(stderr, "--slow-call") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	t.Setenv("ROSTER_MAX_BATCH", "few")
	if code, _, stderr := roster(t, "serve"); code != 2 || !strings.Contains(stderr, `ROSTER_MAX_BATCH="few" in the environment: invalid argument`) {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

func TestCompletionOfFlags(t *testing.T) {
	for line, want := range map[string]string{
		"serve --http2":        "fast\nstd\n:4\n",
		"serve --log-format":   "text\njson\n:4\n",
		"serve --log-level":    "debug\ninfo\nwarn\nerror\n:4\n",
		"get --protocol":       "grpc\ngrpcweb\nconnect\n:4\n",
		"health --output":      "table\njson\n:4\n",
		"import --format":      "csv\nndjson\njson\n:4\n",
		"import --on-bad-row":  "refuse\nskip\n:4\n",
		"token create --role":  "read\nwrite\n:4\n",
		"token list --output":  "table\njson\n:4\n",
		"serve --max-watches":  ":0\n",
		"serve --drain-timeou": "--drain-timeout\thow long running calls may take to finish at shutdown\n:4\n",
	} {
		arguments := append([]string{"__complete"}, strings.Fields(line)...)
		if !strings.HasSuffix(line, "timeou") {
			arguments = append(arguments, "")
		}
		if code, stdout, _ := roster(t, arguments...); code != 0 || stdout != want {
			t.Errorf("%s: exit code %d, completed with %q, want %q", line, code, stdout, want)
		}
	}
}
