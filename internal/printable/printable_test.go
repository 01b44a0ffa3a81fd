package printable

import (
	"encoding/json"
	"testing"
)

func TestLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "",
		"Zoë 日本 \U0001F600 \uFFFD": "Zoë 日本 \U0001F600 \uFFFD",
		"\x1b[2J":                  `\x1b[2J`,
		"\u009b2J":                 `\u009b2J`,
		"a\x9bb":                   `a\x9bb`,
		"a\nb\tc\rd":               `a\nb\tc\rd`,
		"bell\a del\x7f nul\x00":   `bell\a del\x7f nul\x00`,
		"abc\u202egnp.exe":         `abc\u202egnp.exe`,
		"\u2066x\u2069":            `\u2066x\u2069`,
	} {
		if got := Line(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestLines(t *testing.T) {
	if got, want := Lines("a\n\tb\r\x1b"), "a\n\tb"+`\r\x1b`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestJSONMeansTheSame(t *testing.T) {
	const text = "a\x1b \u009b \x7f \u202e ü \U0001F600"
	encoded, err := json.MarshalIndent(map[string]string{"a": text}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got := JSON(encoded)
	if want := "{\n" + `  "a": "a\u001b \u009b \u007f \u202e ü ` + "\U0001F600\"\n}"; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var decoded map[string]string
	if err := json.Unmarshal(got, &decoded); err != nil || decoded["a"] != text {
		t.Errorf("got %q, %v", decoded["a"], err)
	}
}
