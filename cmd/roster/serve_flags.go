package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/roster/directory/sqlite"
	"example.com/roster/internal/unixaddr"
	"example.com/roster/server/gate"
	"example.com/roster/server/telemetry"
)

// serveFlags are the values of the flags of roster serve.
type serveFlags struct {
	addr, store string
	socketMode  string
	storeGiven  bool // by the command line or the environment
	create      bool
	sample      bool
	// changeHistory is how much of the history is kept, and history what it says.
	changeHistory string
	history       sqlite.History
	http2         string

	tlsCert, tlsKey, tlsClientCA string

	tokens    string
	openReads bool

	maxBatch, maxConcurrentCalls int
	maxConnections, maxWatches   int
	maxDeadline                  time.Duration
	rateLimit                    float64
	rateBurst                    int

	trustedProxies []string
	proxyProtocol  bool

	corsOrigins, corsHeaders []string

	bridge     bridgeFlags
	bridgeOnly bool // this is roster bridge: there is no directory and no store

	reusePort                bool
	drainDelay, drainTimeout time.Duration

	adminAddr           string
	logFormat, logLevel string
	accessLog           string
	slowCall            time.Duration

	settings []slog.Attr // what each of these is, for the log
	unknown  []unknownVariable
}

// table returns the flags of roster serve, as --help lists them.
func (f *serveFlags) table() []flagRow {
	const (
		address   = "Address and store"
		tls       = "TLS"
		access    = "Access"
		limits    = "Limits"
		proxies   = "Behind a proxy"
		browsers  = "Browsers"
		restart   = "Restart"
		telemetry = "Telemetry"
	)
	const bridge = "Other servers"
	rows := []flagRow{
		{address, "addr", into(&f.addr, "localhost:50051", checkAddr),
			"host:port to listen on, or unix:PATH for a Unix socket; :50051 listens on every address of this machine"},
		{address, "socket-mode", into(&f.socketMode, "0600", checkSocketMode),
			"permissions of a Unix socket, in octal: whoever may write to it may call, so 0660 lets in the group"},
		{address, "store", into(&f.store, defaultStore, checkStore), storeHelp},
		createFlag(address, &f.create),
		{address, "sample", into(&f.sample, false, nil),
			"load the 300 sample users: into --store if it is given and empty, else into a temporary store"},
		{address, "change-history", into(&f.changeHistory, "7d,1000000", f.checkChangeHistory),
			"how much of the history of changes is kept, for watches that come back and roster log: an age (7d, 12h), a number of changes, or both, whichever is less"},
		{address, "http2", choice(&f.http2, "fast", "fast", "std"),
			"HTTP/2 engine: fast is Roster's own, std is that of Go's net/http"},

		{tls, "tls-cert", into(&f.tlsCert, "", f.checkTLSPair),
			"PEM file with the certificate and its chain: the port then speaks only TLS; reloaded when it changes"},
		{tls, "tls-key", into(&f.tlsKey, "", f.checkTLSPair),
			"PEM file with the private key of --tls-cert; reloaded when it changes"},
		{tls, "tls-client-ca", into(&f.tlsClientCA, "", f.checkClientCA),
			"PEM file with CA certificates: clients must present a certificate that one of them signed (mutual TLS)"},

		{access, "tokens", into(&f.tokens, "", nil),
			"file of tokens, made by roster token: calls then need one of them; reloaded when it changes"},
		{access, "open-reads", into(&f.openReads, false, f.checkOpenReads),
			"with --tokens, require no token for reads; one of the role write is then needed to change users and to read the history"},

		{limits, "max-batch", into(&f.maxBatch, 10_000, atLeastOne),
			"maximum ids in one call"},
		{limits, "max-concurrent-calls", into(&f.maxConcurrentCalls, 3_000, atLeastOne),
			"maximum concurrent calls; more are refused. Health and reflection do not count"},
		{limits, "max-connections", into(&f.maxConnections, 10_000, atLeastOne),
			"maximum open connections; idle ones give way to new ones, and no address keeps all of them"},
		{limits, "max-deadline", into(&f.maxDeadline, time.Minute, positive),
			"maximum duration of a call, whatever deadline the client sets; streams have no such limit"},
		{limits, "max-watches", into(&f.maxWatches, 2_000, atLeastOne),
			"maximum concurrent watches of the users (WatchUsers), and as many of the server's health (grpc.health.v1 Watch)"},
		{limits, "rate-limit", into(&f.rateLimit, 0, checkRateLimit),
			"maximum calls per second of one caller, known by its token, certificate or else address; 0 is no limit"},
		{limits, "rate-burst", into(&f.rateBurst, 0, f.checkRateBurst),
			"maximum calls of one caller at once; 0 is as many as --rate-limit"},

		{proxies, "trusted-proxies", into(&f.trustedProxies, nil, checkProxies),
			"addresses or networks (CIDR) of the proxies in front of the port, whose header Forwarded or X-Forwarded-For names the client. Repeat the flag, or separate them by commas"},
		{proxies, "proxy-protocol", into(&f.proxyProtocol, false, nil),
			"require the PROXY protocol, v1 or v2, at the start of each connection; with --trusted-proxies only from those"},

		{browsers, "cors-origin", into(&f.corsOrigins, nil, checkOrigins),
			"origin whose pages may call, such as https://app.example.com; http://localhost:* is any port of localhost. Repeat the flag, or separate origins by commas"},
		{browsers, "cors-header", into(&f.corsHeaders, nil, f.checkHeaders),
			"header that pages of --cors-origin may send besides those of calls, tokens and tracing. Repeat the flag, or separate names by commas"},
	}
	rows = append(rows, f.bridgeTable(bridge)...)
	rows = append(rows, []flagRow{
		{restart, "reuse-port", into(&f.reusePort, false, nil),
			"share --addr and --admin-addr with another roster serve that has this flag, so that it can take over before this one ends (Linux)"},
		{restart, "drain-delay", into(&f.drainDelay, 0, notNegative),
			"how long to go on serving at shutdown with health at NOT_SERVING, so that load balancers notice"},
		{restart, "drain-timeout", into(&f.drainTimeout, 30*time.Second, positive),
			"how long running calls may take to finish at shutdown"},

		{telemetry, "admin-addr", into(&f.adminAddr, "", f.checkAdminAddr),
			"host:port of a second port with /metrics, /livez, /readyz and /debug/pprof; none if empty. Keep it on localhost or a private network"},
		{telemetry, "log-format", choice(&f.logFormat, "", "text", "json"),
			"text or json; by default text on a terminal, else json"},
		{telemetry, "log-level", into(&f.logLevel, "info", checkLogLevel).completedBy("debug", "info", "warn", "error"),
			"lowest level to log: debug, info, warn or error"},
		{telemetry, "access-log", into(&f.accessLog, "10", checkAccessLog),
			"requests to log: all, errors, off, or how many successes per second beside the errors (at most 100 per second)"},
		{telemetry, "slow-call", into(&f.slowCall, time.Second, notNegative),
			"log a call that takes this long or longer as errors are logged; 0 is never"},
	}...)
	if !f.bridgeOnly {
		return rows
	}
	return slices.DeleteFunc(rows, func(row flagRow) bool {
		return slices.Contains([]string{"store", "create", "sample", "change-history", "max-batch", "open-reads", "bridge"}, row.name)
	})
}

func (f *serveFlags) checkChangeHistory(text string) (err error) {
	f.history, err = parseHistory(text)
	return err
}

// parseHistory reads an age, a number of changes, or both with a comma between them.
func parseHistory(text string) (history sqlite.History, err error) {
	wrong := errors.New("want an age such as 7d or 12h, a number of changes such as 1000000, or both with a comma between them")
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if changes, err := strconv.ParseInt(part, 10, 64); err == nil {
			if history.Changes != 0 || changes < 1 {
				return sqlite.History{}, wrong
			}
			history.Changes = changes
			continue
		}
		age, err := parseAge(part)
		if err != nil || history.Age != 0 || age <= 0 {
			return sqlite.History{}, wrong
		}
		history.Age = age
	}
	return history, nil
}

func checkAddr(addr string) error {
	if addr == "" {
		return usage("--addr is empty: give host:port, or :port for every address of this machine")
	}
	return checkListen(addr)
}

// checkListen refuses what listen.Open cannot listen on.
func checkListen(addr string) error {
	if _, found, err := unixaddr.Parse(addr); found || err != nil {
		return err
	}
	if scheme, rest, found := strings.Cut(addr, ":"); found && slices.Contains([]string{"dns", "ipv4", "ipv6", "http", "https", "tcp", "vsock", "xds"}, scheme) &&
		strings.ContainsFunc(rest, func(r rune) bool { return r < '0' || r > '9' }) {
		return fmt.Errorf("%s: is for clients; give host:port, or unix:PATH for a Unix socket", scheme)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("want host:port, such as localhost:50051, or :50051 for every address of this machine, or unix:PATH for a Unix socket; an IPv6 address is written in brackets")
	}
	if _, err := net.LookupPort("tcp", port); err != nil || port == "" {
		return fmt.Errorf("%q is no port: want a number from 0 to 65535, where 0 is any free one", port)
	}
	return nil
}

func checkSocketMode(text string) error {
	mode, err := parseSocketMode(text)
	switch {
	case err != nil:
		return errors.New("want permissions in octal, such as 0660")
	case mode&0o200 == 0:
		return errors.New("its owner could not connect: want 0600 or more")
	}
	return nil
}

func parseSocketMode(text string) (fs.FileMode, error) {
	mode, err := strconv.ParseUint(text, 8, 32)
	if err == nil && mode > 0o777 {
		err = errors.New("more than 0777")
	}
	return fs.FileMode(mode), err
}

func (f *serveFlags) checkTLSPair(string) error {
	if (f.tlsCert == "") != (f.tlsKey == "") {
		return usage("--tls-cert and --tls-key go together")
	}
	return nil
}

func (f *serveFlags) checkClientCA(file string) error {
	if file != "" && f.tlsCert == "" {
		return usage("--tls-client-ca needs --tls-cert and --tls-key: client certificates exist only in TLS")
	}
	return nil
}

func (f *serveFlags) checkOpenReads(open bool) error {
	if open && f.tokens == "" {
		return usage("--open-reads goes with --tokens: without tokens everybody may read anyway")
	}
	return nil
}

func checkRateLimit(limit float64) error {
	switch {
	case !(limit >= 0) || math.IsInf(limit, 0): // NaN, too
		return errors.New("must be 0, which is no limit, or more")
	case limit > 0 && limit < 0.001:
		return errors.New("is less than a call in a quarter of an hour")
	}
	return nil
}

func (f *serveFlags) checkRateBurst(burst int) error {
	switch {
	case burst < 0:
		return errors.New("must be 0, which is as many as --rate-limit, or more")
	case burst > 0 && f.rateLimit == 0:
		return errors.New("needs --rate-limit")
	}
	return nil
}

func checkOrigins(origins []string) error {
	_, err := parseOrigins(origins)
	return err
}

// parseOrigins returns the origins as the server compares them.
func parseOrigins(texts []string) ([]string, error) {
	var origins []string
	for _, text := range texts {
		origin, err := gate.ParseOrigin(text)
		if err != nil {
			return nil, usage("--cors-origin %q: %w", text, err)
		}
		origins = append(origins, origin)
	}
	return origins, nil
}

func (f *serveFlags) checkHeaders(names []string) error {
	if len(names) > 0 && len(f.corsOrigins) == 0 {
		return usage("--cors-header goes with --cors-origin: without it no page of another origin may call")
	}
	_, err := parseHeaders(names)
	return err
}

// parseHeaders returns the names of headers as the server compares them.
func parseHeaders(texts []string) ([]string, error) {
	var names []string
	for _, text := range texts {
		name, err := gate.ParseHeader(text)
		if err != nil {
			return nil, usage("--cors-header %q: %w", text, err)
		}
		names = append(names, name)
	}
	return names, nil
}

func checkProxies(proxies []string) error {
	_, err := parseProxies(proxies)
	return err
}

// parseProxies returns the networks of the proxies.
func parseProxies(texts []string) ([]netip.Prefix, error) {
	var proxies []netip.Prefix
	for _, text := range texts {
		proxy, err := gate.ParseProxy(text)
		if err != nil {
			return nil, usage("--trusted-proxies %q: %w", text, err)
		}
		proxies = append(proxies, proxy)
	}
	return proxies, nil
}

func (f *serveFlags) checkAdminAddr(addr string) error {
	if addr == "" {
		return nil
	}
	if err := checkListen(addr); err != nil {
		return err
	}
	if addr == f.addr && !strings.HasSuffix(addr, ":0") {
		return usage("--admin-addr is --addr, %s: give it a port of its own", addr)
	}
	return nil
}

func checkLogLevel(text string) error {
	_, err := parseLogLevel(text)
	return err
}

// parseLogLevel reads the four levels that Roster has. slog itself would also take info+3.
func parseLogLevel(text string) (level slog.Level, err error) {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(text, level.String()) {
			return level, nil
		}
	}
	return 0, errors.New("want debug, info, warn or error")
}

func checkAccessLog(text string) error {
	_, _, err := parseAccessLog(text)
	return err
}

// maxErrorLines is how many requests that fail, or are slow, are logged in a second.
const maxErrorLines = 100

// parseAccessLog returns what to log of requests, and whether to log any.
func parseAccessLog(text string) (config telemetry.AccessLogConfig, on bool, err error) {
	config.Errors = maxErrorLines
	switch text {
	case "off":
		return config, false, nil
	case "errors":
	case "all":
		config.Successes, config.Errors = -1, -1
	default:
		// Digits alone: a sign is a mistake.
		successes, err := strconv.ParseUint(text, 10, 31)
		if config.Successes = int(successes); err != nil {
			return config, false, fmt.Errorf("want all, errors, off, or a number of calls a second")
		}
	}
	return config, true, nil
}
