package report

import (
	"fmt"
	"strings"

	"example.com/roster/bench/internal/measure"
	"example.com/roster/bench/internal/peer"
)

// proxyMarks are the marks of the bridge.
func proxyMarks() []mark {
	return []mark{
		{"CPU of a gRPC call of 2 ids at 8 × 16, against nginx `grpc_pass`", measure.ProxyTwo, peer.Bridge, peer.NginxProxy, measure.CPU, 0.7, 0},
		{"the same against Envoy", measure.ProxyTwo, peer.Bridge, peer.Envoy, measure.CPU, 1.3, 1},
		{"CPU of a JSON call over h2c, against Envoy's transcoder", measure.ProxyJSON, peer.Bridge, peer.EnvoyJSON, measure.CPU, 0.7, 0},
		{"CPU of a JSON call over HTTP/1.1, against Envoy's transcoder", measure.ProxyJSON1, peer.Bridge, peer.EnvoyJSON, measure.CPU, 0.7, 0},
		{"p50 that is added to a gRPC call at 1 × 1, against Envoy", measure.ProxyOne, peer.Bridge, peer.Envoy, measure.Added, 1, 0},
	}
}

// WriteProxies writes the section of make bench-bridge.
func WriteProxies(docs, section, made string, r *measure.Run) error {
	how, err := texts.ReadFile("text/" + section + ".md")
	if err != nil {
		return err
	}
	text := "## The bridge beside other proxies\n\n" + made + "\n\n" + proxyVersions(r) + ".\n\n" + markTable(r, proxyMarks()) +
		fill(string(how), "{rounds}", r.Rounds, "{duration}", r.Duration) + leftOut(r) + failures(r) + "\n"
	for _, c := range r.Cases {
		text += caseTable(r, c)
	}
	return writeSection(docs, section, text)
}

// MissedByBridge is an error that names the marks of the bridge that were missed. A mark that was not
// measured, because a proxy is not installed or not all cases were asked for, is not missed.
func MissedByBridge(r *measure.Run) error {
	var missed []string
	for _, m := range proxyMarks() {
		if verdict := m.verdict(r.Ratio(m.key, m.name, m.base, m.field)); strings.HasPrefix(verdict, "**missed**") {
			missed = append(missed, m.what+": "+verdict)
		}
	}
	if missed == nil {
		return nil
	}
	return fmt.Errorf("%d marks were missed: %s", len(missed), strings.Join(missed, "; "))
}
