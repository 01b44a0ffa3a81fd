package userfile

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// number returns a whole number, with spaces around it or not. Programs that keep numbers as floats
// write 42 as 42.0; 42.000 is not taken, since it is 42 thousand where a dot separates thousands.
func number(column, text string) (int32, error) {
	trimmed := strings.TrimSpace(text)
	if trimmed == "" {
		return 0, fmt.Errorf("%s is empty", column)
	}
	whole := trimmed
	if before, zeros, found := strings.Cut(trimmed, "."); found && (zeros == "0" || zeros == "00") {
		whole = before
	}
	n, err := strconv.ParseInt(whole, 10, 32)
	switch {
	case err == nil:
		return int32(n), nil
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%s %s is out of range: it must be between %d and %d", column, quoted(text), math.MinInt32, math.MaxInt32)
	}
	return 0, fmt.Errorf("%s %s is not a whole number", column, quoted(text))
}

// age returns an age, that of the options if there is none.
func (o *Options) age(text string) (int32, error) {
	if strings.TrimSpace(text) != "" {
		return number("age", text)
	}
	if o.EmptyAge == nil {
		return 0, errors.New("age is empty: --empty-age 0 takes it as 0")
	}
	return *o.EmptyAge, nil
}

// simplified returns the letters and digits of a name, in lower case.
func simplified(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, name)
}
