package service

import (
	"strings"
	"testing"

	"example.com/roster/directory"
)

func TestFilters(t *testing.T) {
	for text, want := range map[string]directory.Filter{
		"":                                   {},
		" \t\n":                              {},
		`name="Ann"`:                         {NamePrefix: "ann", NameIs: true},
		`name = "Ann*"`:                      {NamePrefix: "ann"},
		`email = "ANN@*"`:                    {EmailPrefix: "ann@"},
		`email=""`:                           {EmailIs: true},
		`email="*"`:                          {},
		` name = "A*" AND email = "b@c" `:    {NamePrefix: "a", EmailPrefix: "b@c", EmailIs: true},
		"email=\"b\"\nAND\nname=\"a*\"":      {NamePrefix: "a", EmailPrefix: "b", EmailIs: true},
		`name = "a \"b\" \\ \*"`:             {NamePrefix: `a "b" \ *`, NameIs: true},
		`name = "a\**"`:                      {NamePrefix: "a*"},
		`name = "Straße"`:                    {NamePrefix: "strasse", NameIs: true},
		"name = \"Zoe\u0308\"":               {NamePrefix: "zoë", NameIs: true},
		`name="a"AND email="b"`:              {NamePrefix: "a", NameIs: true, EmailPrefix: "b", EmailIs: true},
		`name = "x = y AND email = \"z\" ("`: {NamePrefix: `x = y and email = "z" (`, NameIs: true},
	} {
		if got, err := parseFilter(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		`nam = "A"`:                      `filter: column 1: "nam" cannot be filtered by: use name or email`,
		`age = 3`:                        `column 1: "age" cannot be filtered by`,
		`Name = "A"`:                     `column 1: "Name" cannot be filtered by`,
		`name`:                           `column 5: the end stands where the = after name is expected`,
		`name: "A"`:                      `column 5: ":" stands where the = after name is expected`,
		`name != "A"`:                    `column 6: "!" stands where the = after name is expected`,
		`name == "A"`:                    `column 7: "=" stands where a value is expected: write it in double quotes, as in name = "ann*"`,
		`name =`:                         `column 7: the end stands where a value is expected`,
		`name = Ann`:                     `column 8: "A" stands where a value is expected`,
		`name = 'Ann'`:                   `column 8: "'" stands where a value is expected`,
		`name = "Ann`:                    `column 8: the value that begins here has no quote at its end`,
		`name = "Ann*`:                   `column 12: a * is possible at the end`,
		`name = "*nn"`:                   `column 9: a * is possible at the end of a value only: write \* for the character`,
		`name = "a**"`:                   `column 10: a * is possible`,
		`name = "a\n"`:                   `column 10: a backslash stands before`,
		`name = "a\`:                     `column 10: a backslash stands before`,
		`name = "a" and email = "b"`:     `column 12: "and" is to be written AND`,
		`name = "a" OR name = "b"`:       `column 12: "OR" is not known here: terms are joined by AND alone`,
		`NOT name = "a"`:                 `column 1: NOT is not known here`,
		`-name = "a"`:                    `column 1: "-" is no field`,
		`(name = "a")`:                   `column 1: "(" is no field`,
		`name = "a" AND`:                 `column 15: a term is missing`,
		`name = "a" email = "b"`:         `column 12: "email" is not known here`,
		`name = "a", email = "b"`:        `column 11: "," is too much here`,
		`name = "a" AND name = "b"`:      `column 16: name is given twice`,
		`name = "é" AND ü = "b"`:         `column 16: "ü" is no field`,
		"name = \"a\" AND \u202eemail=1": `column 16: "\u202e" is no field`,
		`Ann`:                            `column 1: "Ann" cannot be filtered by`,
		strings.Repeat("x", 2000):        `column 1: "xxx`,
	} {
		_, err := parseFilter(text)
		if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 300 {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
		if told := violations(t, err); len(told) != 1 || told[0].GetField() != "filter" || told[0].GetReason() != "FILTER_SYNTAX" {
			t.Errorf("%s: the details are %v", text, told)
		}
	}
}

func TestOrders(t *testing.T) {
	for text, want := range map[string][2]bool{
		"": {}, " ": {}, "id": {}, "id desc": {false, true}, "name": {true, false}, " name  desc ": {true, true},
	} {
		if byName, descending, err := parseOrder(text); err != nil || byName != want[0] || descending != want[1] {
			t.Errorf("%q: %v, %v, %v", text, byName, descending, err)
		}
	}
	for text, want := range map[string]string{
		"email":         `order_by: "email" cannot be ordered by: use id or name`,
		"name,id":       `order_by: "name,id" has more than one field`,
		"name asc":      `order_by: after name stands "asc", only desc may`,
		"name DESC":     `order_by: after name stands "DESC", only desc may`,
		"name desc id":  `order_by: after name stands "desc id", only desc may`,
		"desc":          `order_by: "desc" cannot be ordered by`,
		"name\x00 desc": `order_by: "name\x00" cannot be ordered by`,
	} {
		if _, _, err := parseOrder(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// Whatever is sent, a filter is read or refused, and a filter that is read finds what it says.
func FuzzFilter(f *testing.F) {
	for _, text := range []string{`name = "A*" AND email = "b\"c"`, `email="\\*"`, "name=\"\xff\"", `name = "`, "AND"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := parseFilter(text)
		if err != nil {
			if len(err.Error()) > 1000 || filter != (directory.Filter{}) {
				t.Errorf("%q: %v with the error %v", text, filter, err)
			}
			return
		}
		quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `*`, `\*`)
		star := map[bool]string{false: "*"}
		again, err := parseFilter(`name = "` + quote.Replace(filter.NamePrefix) + star[filter.NameIs] + `" AND email = "` +
			quote.Replace(filter.EmailPrefix) + star[filter.EmailIs] + `"`)
		if err != nil || again != filter {
			t.Errorf("%q: %+v, read again %+v, %v", text, filter, again, err)
		}
	})
}
