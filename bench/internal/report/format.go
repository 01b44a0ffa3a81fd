package report

import (
	"fmt"
	"iter"
	"maps"
	"strings"
)

// micros formats nanoseconds.
func micros(nanoseconds float64, digits int) string {
	if nanoseconds == 0 {
		return none
	}
	return fmt.Sprintf("%.*f", digits, nanoseconds/1000)
}

func megabytes(bytes float64) string {
	if bytes == 0 {
		return none
	}
	return fmt.Sprintf("%.1f", bytes/1e6)
}

// thousands formats a whole number with commas.
func thousands(number float64) string {
	if number == 0 {
		return none
	}
	digits := fmt.Sprintf("%.0f", number)
	var parts []string
	for len(digits) > 3 {
		parts = append([]string{digits[len(digits)-3:]}, parts...)
		digits = digits[:len(digits)-3]
	}
	return strings.Join(append([]string{digits}, parts...), ",")
}

func mapKeys(m map[string]string) iter.Seq[string] { return maps.Keys(m) }
