// Package printable makes text of other people's harmless for a terminal. What a server, a file or a
// caller has sent may contain escape sequences, which move the cursor, hide what stands there, or
// have some terminals type (CWE-150), and marks that turn the direction of the text around.
//
//	fmt.Fprintf(stderr, "the server says: %s\n", printable.Line(message))
package printable

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line returns text in which every character that a terminal would act on is written as an escape of
// Go (\x1b, \n, \u202e), and so is what is not UTF-8.
func Line(text string) string { return escape(text, "") }

// Lines is Line for text that may have several lines: line breaks and tabs stay.
func Lines(text string) string { return escape(text, "\n\t") }

func escape(text, keep string) string {
	if strings.IndexFunc(text, acts) < 0 && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case !acts(r) || strings.ContainsRune(keep, r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(fmt.Sprintf("%+q", r), "'"))
		}
	}
	return b.String()
}

// JSON returns JSON in which these characters are escaped as JSON has it, so that it still means the
// same. Encoders escape only those below a space. Line breaks between values stay.
func JSON(text []byte) []byte {
	if bytes.IndexFunc(text, actsInJSON) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range string(text) {
		if actsInJSON(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return []byte(b.String())
}

// actsInJSON leaves out what JSON itself escapes within strings, and has between values.
func actsInJSON(r rune) bool { return r >= ' ' && acts(r) }

// acts reports whether a terminal does something else with r than show it: the control characters
// C0, DEL and C1, and what changes the direction of text (Unicode Standard Annex 9 §2).
func acts(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
}
