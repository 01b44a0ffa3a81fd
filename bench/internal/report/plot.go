package report

import (
	"fmt"
	"html"
	"os"
	"strings"

	"example.com/roster/bench/internal/calls"
	"example.com/roster/bench/internal/peer"
	"example.com/roster/bench/internal/python"
	"example.com/roster/bench/internal/stream"
)

type bar struct {
	name  string
	value float64
}

// panel is one small bar chart.
type panel struct {
	title, unit string
	digits      int
	bars        []bar
}

const (
	panelWidth = 470
	labelWidth = 170
	barStep    = 24
	barHeight  = 16
	titleSpace = 44
)

func (p panel) height() int { return titleSpace + len(p.bars)*barStep + 16 }

// draw writes the panel at a place. Roster's bars are the coloured ones.
func (p panel) draw(w *strings.Builder, x, y int) {
	fmt.Fprintf(w, `<text x="%d" y="%d" class="title">%s</text>`+"\n", x, y+20, html.EscapeString(p.title))
	most := 0.0
	for _, b := range p.bars {
		most = max(most, b.value)
	}
	const room = panelWidth - labelWidth - 90 // the value stands after the bar
	for i, b := range p.bars {
		top := y + titleSpace - 8 + i*barStep
		class := "other"
		if b.name == peer.Roster || b.name == peer.RosterStd {
			class = "roster"
		}
		title := strings.ReplaceAll(peer.Title(b.name), "`", "")
		fmt.Fprintf(w, `<text x="%d" y="%d" class="label">%s</text>`+"\n", x+labelWidth-8, top+13, html.EscapeString(title))
		width := b.value / most * room
		fmt.Fprintf(w, `<rect x="%d" y="%d" width="%.1f" height="%d" class="%s"/>`+"\n", x+labelWidth, top, width, barHeight, class)
		fmt.Fprintf(w, `<text x="%.1f" y="%d" class="value">%.*f %s</text>`+"\n", float64(x+labelWidth)+width+6, top+13, p.digits, b.value, p.unit)
	}
}

// writePlot draws what was measured: lower is better in every panel.
func writePlot(file string, d *Data) error {
	var panels []panel
	for _, c := range d.Calls.Cases {
		if c.Key != calls.KeyTwo && c.Key != calls.KeyThousand && c.Key != "connect-json-h2c" {
			continue
		}
		p := panel{title: "CPU per call: " + c.Title, unit: "µs", digits: 1}
		for _, name := range c.Peers {
			// One slow interpreter would leave the others no room.
			if name != peer.Python {
				p.add(name, medianOf(d.Calls.Samples[c.Key][name], cpu)/1000)
			}
		}
		panels = append(panels, p)
	}
	p := panel{title: "CPU per message of a server stream", unit: "µs", digits: 2}
	for _, name := range stream.Peers {
		p.add(name, medianOf(d.Stream[name], streamCPU)/1000)
	}
	panels = append(panels, p)
	p = panel{title: "p50 that a Python client sees", unit: "µs"}
	for _, name := range python.Peers {
		p.add(name, medianOf(d.Python[name], pythonP50)/1000)
	}
	panels = append(panels, p)
	p = panel{title: "Memory of an idle connection", unit: "KB", digits: 1}
	for _, name := range []string{peer.GRPC, peer.Roster, peer.RosterStd, peer.Connect, peer.GRPCTuned, peer.Tonic, peer.Nginx} {
		p.add(name, float64(d.Idle[name])/1000)
	}
	panels = append(panels, p)

	var body strings.Builder
	y := 40
	for i := 0; i < len(panels); i += 2 {
		height := panels[i].height()
		panels[i].draw(&body, 20, y)
		if i+1 < len(panels) {
			panels[i+1].draw(&body, 20+panelWidth+20, y)
			height = max(height, panels[i+1].height())
		}
		y += height
	}
	const width = 2*panelWidth + 60
	svg := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img" aria-label="CPU, latency and memory of Roster and other servers">
<style>
text { font: 13px system-ui, "DejaVu Sans", sans-serif; fill: #1f2933; }
.head { font-size: 12px; fill: #52606d; }
.title { font-weight: 600; }
.label { text-anchor: end; }
.roster { fill: #0b7285; }
.other { fill: #adb5bd; }
</style>
<rect width="%[1]d" height="%[2]d" fill="#ffffff"/>
<text x="20" y="26" class="head">%[3]s: lower is better, medians; rounds: %[4]d</text>
%[5]s</svg>
`, width, y+10, html.EscapeString(d.Header.Command+", "+d.Header.Date), d.Rounds, body.String())
	return os.WriteFile(file, []byte(svg), 0o644)
}

// add leaves out what was not measured.
func (p *panel) add(name string, value float64) {
	if value > 0 {
		p.bars = append(p.bars, bar{name, value})
	}
}
