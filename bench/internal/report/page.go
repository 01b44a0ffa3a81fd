package report

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// The sections of the page, each written by a program run of its own.
const (
	SectionRun     = "bench"
	SectionAttacks = "bench-attacks"
	SectionFlood   = "bench-flood"
	SectionSoak    = "soak"
)

const page = `# Benchmarks

Roster beside other servers of the same contract and the same 300 users. Every
section says which command made its numbers; nothing here is written by hand.

`

func mark(section, which string) string { return fmt.Sprintf("<!-- make %s: %s -->\n", section, which) }

// WriteSection puts text into the page in place of the section's last one, and
// leaves the other sections as they are.
func WriteSection(file, section, text string) error {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	content := string(old)
	if content == "" {
		content = page
		for _, name := range []string{SectionRun, SectionAttacks, SectionFlood, SectionSoak} {
			content += mark(name, "begin") + "\n`make " + name + "` has not been run yet.\n\n" + mark(name, "end") + "\n"
		}
	}
	before, rest, found := strings.Cut(content, mark(section, "begin"))
	_, after, closed := strings.Cut(rest, mark(section, "end"))
	if !found || !closed {
		return fmt.Errorf("%s has not the lines that the section of make %s is between: remove it, and it is made anew", file, section)
	}
	content = before + mark(section, "begin") + "\n" + strings.TrimSpace(text) + "\n\n" + mark(section, "end") + after
	return os.WriteFile(file, []byte(strings.TrimSpace(content)+"\n"), 0o644)
}

// writer builds Markdown.
type writer struct{ strings.Builder }

func (w *writer) line(format string, arguments ...any) { fmt.Fprintf(w, format+"\n", arguments...) }

// table writes a table; all columns but the first and a verdict are numbers.
func (w *writer) table(columns []string, rows [][]string) {
	w.line("| %s |", strings.Join(columns, " | "))
	align := "| --- |"
	for _, column := range columns[1:] {
		if column == "verdict" {
			align += " --- |"
		} else {
			align += " ---: |"
		}
	}
	w.line("%s", align)
	for _, row := range rows {
		w.line("| %s |", strings.Join(row, " | "))
	}
	w.line("")
}

func (w *writer) header(title string, h Header) {
	w.line("## %s\n", title)
	w.line("Made by `%s` on %s, at commit %s. %s; load average before the run %s.\n", h.Command, h.Date, h.Commit, h.Machine, h.Load)
}

const none = "–"

func ratio(value float64) string {
	if value == 0 {
		return none
	}
	return fmt.Sprintf("%.2f×", value)
}
