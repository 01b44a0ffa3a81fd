package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"example.com/roster/server/telemetry"
)

// What strangers have written into the log is shown and not obeyed, and durations have units.
func TestTheLogIsReadable(t *testing.T) {
	const evil = "a\x1b[2J\u009b31m\u202eb\nc"
	for _, format := range []string{"json", "text"} {
		var written bytes.Buffer
		queue := telemetry.NewLogQueue(&written)
		log := newLogger(queue, format, "info", false)
		log.Info(evil, "name", evil, "took", 1500*time.Millisecond)
		queue.Close(time.Minute)
		line := written.String()
		if strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\x1b\u009b\u202e\n") {
			t.Errorf("%s: %q", format, line)
		}
		if !strings.Contains(line, "1.5s") {
			t.Errorf("%s: no unit in %s", format, line)
		}
		if format == "json" {
			var entry struct{ Msg, Name string }
			if err := json.Unmarshal(written.Bytes(), &entry); err != nil || entry.Msg != evil || entry.Name != evil {
				t.Errorf("%v: it reads %q", err, entry)
			}
		}
	}
}

func TestJSONOfACommandIsReadable(t *testing.T) {
	var written bytes.Buffer
	if err := printJSON(&written, map[string]string{"name": "\u009b31m"}); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"name\": \"\\u009b31m\"\n}\n"; written.String() != want {
		t.Errorf("got %q, want %q", written.String(), want)
	}
}
