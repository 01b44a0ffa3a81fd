package report

import (
	"fmt"
	"html"
	"os"
	"strings"

	"example.com/roster/bench/internal/measure"
	"example.com/roster/bench/internal/peer"
)

const (
	panelWidth  = 470
	panelHeight = 280 // room for nine bars
	labelWidth  = 170
	barRoom     = panelWidth - labelWidth - 90 // the value stands after the bar
	barStep     = 24
	titleSpace  = 36
)

// writePlot draws a bar chart of the first column of each case that has a title for it, two in a
// row. Lower is better in all of them.
func writePlot(file, made string, r *measure.Run) error {
	var body strings.Builder
	panels := 0
	for _, c := range r.Cases {
		if c.PlotTitle != "" {
			panel(&body, r, c, 20+panels%2*(panelWidth+20), 40+panels/2*panelHeight)
			panels++
		}
	}
	text, err := texts.ReadFile("text/plot.svg")
	if err != nil {
		return err
	}
	svg := fill(string(text), "{width}", 2*panelWidth+60, "{height}", 50+(panels+1)/2*panelHeight,
		"{made}", html.EscapeString(made[:strings.Index(made+", at commit", ", at commit")]), "{rounds}", r.Rounds, "{body}", body.String())
	return os.WriteFile(file, []byte(svg), 0o644)
}

// panel draws one chart at a place. Roster's bars are the coloured ones.
func panel(w *strings.Builder, r *measure.Run, c measure.Case, x, y int) {
	fmt.Fprintf(w, `<text x="%d" y="%d" class="title">%s</text>`+"\n", x, y+20, html.EscapeString(c.PlotTitle))
	column := c.Columns[0]
	values, most := make(map[string]float64), 0.0
	for _, name := range c.Peers {
		// One slow interpreter would leave the others no room.
		if name != peer.Python || c.Key == measure.Python {
			values[name] = r.Median(c.Key, name, column.Field) * column.Factor
			most = max(most, values[name])
		}
	}
	top := y + titleSpace
	for _, name := range c.Peers {
		if values[name] == 0 {
			continue
		}
		class := "other"
		if name == peer.Roster || name == peer.RosterStd {
			class = "roster"
		}
		width := values[name] / most * barRoom
		label := html.EscapeString(strings.ReplaceAll(peer.Title(name), "`", ""))
		fmt.Fprintf(w, `<text x="%d" y="%d" class="label">%s</text>`+"\n", x+labelWidth-8, top+13, label)
		fmt.Fprintf(w, `<rect x="%d" y="%d" width="%.1f" height="16" class="%s"/>`+"\n", x+labelWidth, top, width, class)
		unit := column.Title[strings.LastIndex(column.Title, " ")+1:]
		unit, _, _ = strings.Cut(unit, "/")
		fmt.Fprintf(w, `<text x="%.1f" y="%d" class="value">%s %s</text>`+"\n", float64(x+labelWidth)+width+6, top+13, number(values[name], column.Digits), unit)
		top += barStep
	}
}
