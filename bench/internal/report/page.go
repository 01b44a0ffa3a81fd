// Package report writes what was measured into docs/benchmarks.md and docs/benchmarks.svg.
package report

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func begin(section string) string { return "<!-- make " + section + ": begin -->\n" }
func end(section string) string   { return "\n<!-- make " + section + ": end -->" }

// writeSection puts text into the page in place of the section's previous text, and leaves the
// other sections as they are.
func writeSection(docs, section, text string) error {
	file := filepath.Join(docs, "benchmarks.md")
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(content), begin(section))
	_, after, closed := strings.Cut(rest, end(section))
	if !found || !closed {
		return fmt.Errorf("%s lacks the comments around the section of make %s: restore them", file, section)
	}
	return os.WriteFile(file, []byte(before+begin(section)+"\n"+strings.TrimSpace(text)+"\n"+end(section)+after), 0o644)
}

// table is a table in Markdown. All columns but the first and a verdict are numbers.
func table(columns []string, rows [][]string) string {
	align := make([]string, len(columns))
	for i, column := range columns {
		if align[i] = "---:"; i == 0 || column == "verdict" {
			align[i] = "---"
		}
	}
	text := ""
	for _, row := range append([][]string{columns, align}, rows...) {
		text += "| " + strings.Join(row, " | ") + " |\n"
	}
	return text + "\n"
}

// fill replaces the names in braces by values: name, value, name, value….
func fill(text string, namesAndValues ...any) string {
	var pairs []string
	for _, part := range namesAndValues {
		pairs = append(pairs, fmt.Sprint(part))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// number formats a number with commas. What was not measured is 0.
func number(value float64, digits int) string {
	if value == 0 {
		return "–"
	}
	text := fmt.Sprintf("%.*f", digits, value)
	whole, _, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func ratio(value float64) string {
	if value == 0 {
		return number(0, 2)
	}
	return number(value, 2) + "×"
}
