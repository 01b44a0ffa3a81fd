package userfile_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"example.com/roster/directory/userfile"
)

// A file that was cut, or changed in any place, loses no row unnoticed: the counts add up to the lines
// of the file, and each line that is still as it was is a user, or is among the lines of a bad row,
// or the file is refused as a whole.
func TestNoRowVanishesUnnoticed(t *testing.T) {
	const rows, changes = 30, 1500
	csv, quoted, ndjson := "id,name,age,email\n", "id,name,age,email,note\n", ""
	for id := range rows {
		csv += fmt.Sprintf("%d,User %d,%d,u%d@example.com\n", id+100, id, id, id)
		quoted += fmt.Sprintf("%d,\"User, %d\",%d,u%d@example.com,\"a \"\"note\"\"\"\n", id+100, id, id, id)
		ndjson += fmt.Sprintf(`{"id":%d,"name":"User %d","age":%d,"email":"u%d@example.com"}`+"\n", id+100, id, id, id)
	}
	for _, file := range []struct {
		name, text string
		options    userfile.Options
	}{
		{"CSV", csv, userfile.Options{Format: userfile.CSV}},
		{"CSV with quotes and a column that is ignored", quoted, userfile.Options{Format: userfile.CSV, IgnoreColumns: true}},
		{"CSV with a column that is ignored", strings.ReplaceAll(csv, "\n", ",note\n"), userfile.Options{Format: userfile.CSV, IgnoreColumns: true}},
		{"NDJSON", ndjson, userfile.Options{Format: userfile.NDJSON}},
		{"CSV of CRLF", strings.ReplaceAll(csv, "\n", "\r\n"), userfile.Options{Format: userfile.CSV}},
	} {
		t.Run(file.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			good := make(map[string]bool)
			for line := range strings.SplitSeq(strings.TrimSpace(file.text), "\n") {
				good[strings.TrimSuffix(line, "\r")] = true
			}
			delete(good, strings.TrimSuffix(strings.SplitN(file.text, "\n", 2)[0], "\r")) // the first line of a CSV
			if file.options.Format == userfile.NDJSON {
				good[strings.SplitN(file.text, "\n", 2)[0]] = true
			}
			read := 0
			for range changes {
				text := file.text
				for range 1 + random.IntN(3) {
					text = change(random, text)
				}
				if nothingVanishes(t, text, file.options, good) {
					read++
				}
			}
			if read < changes/4 {
				t.Errorf("only %d of %d files were read: the test shows little", read, changes)
			}
		})
	}
}

// change cuts text, or changes it in one place.
func change(random *rand.Rand, text string) string {
	if text == "" {
		return text
	}
	at := random.IntN(len(text))
	inserted := []string{`"`, `""`, ",", "\n", "\r", "\r\n", ";", "\x00", "é", "\xe9", "{", "}", "[", "\\", "\t", ",,,,", "\n\n"}
	switch random.IntN(9) {
	case 8: // a quote around some fields, of one row or of several
		begin := strings.IndexByte(text[at:], ',')
		if begin < 0 {
			return text
		}
		begin += at + 1
		end := begin + random.IntN(min(len(text)-begin, 300)+1)
		if next := strings.IndexAny(text[end:], ",\n"); next >= 0 {
			end += next
		}
		return text[:begin] + `"` + text[begin:end] + `"` + text[end:]
	case 0:
		return text[:at]
	case 1:
		return text[:at] + text[at+1:]
	case 2, 3: // in the last third, so that what was before it was read
		at = len(text) - 1 - at/3
		fallthrough
	case 4, 5:
		return text[:at] + inserted[random.IntN(len(inserted))] + text[at:]
	case 6:
		return text[:at] + inserted[random.IntN(len(inserted))] + text[at+1:]
	}
	end := min(at+random.IntN(100), len(text))
	return text[:at] + text[end:]
}

// nothingVanishes reads text and reports whether it was read to its end.
func nothingVanishes(t *testing.T, text string, options userfile.Options, good map[string]bool) bool {
	t.Helper()
	options.KeepText = true
	reader, err := userfile.NewReader(strings.NewReader(text), options)
	if err != nil {
		return false
	}
	lines := strings.Split(text, "\n")
	if strings.Contains(strings.Join(reader.Notes(), ""), "CR") {
		lines = strings.Split(strings.ReplaceAll(text, "\r", "\n"), "\n")
	}
	seen := make(map[int]bool) // the lines that became a user or are told as bad
	for {
		_, err := reader.Next()
		if bad, ok := err.(*userfile.RowError); ok {
			for line := bad.Line; line <= bad.End; line++ {
				seen[line] = true
			}
			continue
		}
		if err != nil && err.Error() == "EOF" {
			break
		}
		if err != nil {
			return false
		}
		seen[reader.Line()] = true
		if want := strings.TrimSpace(lines[reader.Line()-1]); reader.Line() == reader.End() && strings.TrimSpace(reader.Text()) != want {
			t.Fatalf("the text of line %d is %q, want %q, in\n%q", reader.Line(), reader.Text(), want, text)
		}
	}
	counts := reader.Counts()
	if counts.Objects {
		return true // an array or pretty objects, by chance: read whole or refused
	}
	all := len(lines)
	if lines[all-1] == "" {
		all--
	}
	if counts.Read != all || counts.Read != counts.Header+counts.Blank+counts.Taken+counts.LeftOut {
		t.Fatalf("counts %+v of %d lines, in\n%q", counts, all, text)
	}
	if ended := strings.HasSuffix(text, "\n"); !ended && reader.Warning() == "" {
		// A CR at the end is a line end where lines end so.
		if !strings.HasSuffix(text, "\r") || !strings.Contains(strings.Join(reader.Notes(), ""), "CR") {
			t.Fatalf("no warning that the last line has no end, in\n%q", text)
		}
	}
	for i, line := range lines {
		if good[strings.TrimSuffix(line, "\r")] && !seen[i+1] {
			t.Fatalf("line %d, %q, vanished, in\n%q", i+1, line, text)
		}
	}
	return true
}

// Whatever a file has in it, reading it ends, its counts add up, and its users are valid.
func FuzzReader(f *testing.F) {
	for _, text := range []string{
		"id,name,age,email\n1,A,1,\n", "sep=;\nE-mail;id;name;age\n\n;1;\"A\nB\";2\n", "\xff\xfei\x00d\x00", "\x1f\x8b\x08",
		`[{"id":1,"name":"A","age":1},` + "\n" + `{"id":"\ud800"}]`, "{\n\"id\":1}\n{}", `{"id":1,"name":"A","age":1}` + "\n\n{",
	} {
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, csv bool) {
		options := userfile.Options{Format: userfile.JSON, IgnoreColumns: len(text)%2 == 0, KeepText: true}
		if csv {
			options.Format = userfile.CSV
		}
		reader, err := userfile.NewReader(strings.NewReader(text), options)
		if err != nil {
			return
		}
		var users, lines int
		for {
			user, err := reader.Next()
			if bad, ok := err.(*userfile.RowError); ok {
				lines += bad.End - bad.Line + 1
				continue
			}
			if err != nil {
				break
			}
			users++
			lines += reader.End() - reader.Line() + 1
			if err := user.Validate(); err != nil {
				t.Fatalf("%+q: %v", user, err)
			}
		}
		counts := reader.Counts()
		if counts.Read != counts.Header+counts.Blank+counts.Taken+counts.LeftOut || !counts.Objects && lines != counts.Taken+counts.LeftOut {
			t.Fatalf("%+v, %d users of %d lines", counts, users, lines)
		}
	})
}
