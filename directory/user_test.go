package directory_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"example.com/roster/directory"
	"example.com/roster/directory/storetest"
)

// One rule for what a name is and what an address is. The rules of the proto are compared with these
// in server/service.
func TestNamesAndAddresses(t *testing.T) {
	for name, want := range map[string]string{
		"Ann Lee": "", "Zoë": "", "O'Brien": "", "名前": "", "?": "", "👩\u200d👩\u200d👧": "", "می\u200cخواهم": "", "א\u200f": "", "A\u00a0B": "", "A\u3000B": "",
		"":                       "name is empty",
		" ":                      "name is empty",
		"\u3000\t":               "name is empty",
		"\u200b":                 "name \"\\u200b\" has U+200B, which is invisible",
		"\u200d\u200c":           "has no visible character",
		"\u0301":                 "has no visible character",
		"\u3164":                 "has U+3164",
		"\u2800":                 "has U+2800",
		"A\u202eB":               `name "A\u202eB" has U+202E, which is invisible or changes the direction of text`,
		"A\u2066B":               "has U+2066",
		"A\ufeffB":               "has U+FEFF",
		"A\u2028B":               "has U+2028",
		"A\U000e0041B":           "has U+E0041",
		"A\u0085B":               "has a control character",
		"A\u009bB":               "has a control character",
		"A\tB":                   "has a control character",
		"A\x7f":                  "has a control character",
		"A\x00":                  "has a control character",
		"Zo\ufffd":               "U+FFFD, the mark of a character that was lost",
		"Zo\xeb":                 "name is not UTF-8",
		strings.Repeat("x", 256): "",
		strings.Repeat("x", 257): "name has 257 bytes, the limit is 256",
		strings.Repeat("é", 129): "name has 258 bytes",
	} {
		check(t, directory.User{Name: name}, want)
	}
	for email, want := range map[string]string{
		"": "", " ": "", "a@b": "", "a.b+c@mail.example.org": "", "o'brien@x.org": "", "ä@ö.example": "", "用户@例子.广告": "",
		"foo..bar.@x.org":                       "", // such addresses were given out for years
		"@":                                     "lacks what is before or after the @",
		"a@":                                    "lacks what is before or after the @",
		"@x.org":                                "lacks what is before or after the @",
		"ann":                                   `email "ann" has no @`,
		"a@x.org;b@x.org":                       `email "a@x.org;b@x.org" is more than one address`,
		"a@x.org,b@x.org":                       "is more than one address",
		"a@x.org b@x.org":                       "is more than one address",
		"a@b@c":                                 "is more than one address",
		"Ann <a@x.org>":                         `has a ' ', which an address must not contain`,
		"<a@x.org>":                             `has a '<'`,
		`"a b"@x.org`:                           `has a '"'`,
		"a b@x.org":                             `has a ' '`,
		"a\u00a0b@x.org":                        `has a '\u00a0'`,
		"a@x org":                               `has a domain that contains ' '`,
		"a@x_y.org":                             `has a domain that contains '_'`,
		"a@[10.0.0.1]":                          `has a domain that contains '['`,
		"a@x..org":                              "has a dot at its begin or end, or two in a row",
		"a@x.org.":                              "has a dot at its begin or end",
		"a@-x.org":                              "a hyphen at its begin or end",
		"a@x-.org":                              "a hyphen at its begin or end",
		"a@“x”.org":                             `contains '“'`,
		"a\u202e@x.org":                         "has U+202E",
		"a\u200b@x.org":                         "has U+200B",
		"a@b\x00":                               "has a control character",
		"a\x1b@b":                               "has a control character",
		"a@" + strings.Repeat("x", 63) + ".org": "",
		"a@" + strings.Repeat("x", 64) + ".org": "more than 63 characters",
		strings.Repeat("x", 316) + "@b.c":       "",
		strings.Repeat("x", 317) + "@b.c":       "email has 321 bytes, the limit is 320",
	} {
		check(t, directory.User{Name: "A", Email: email}, want)
	}
	check(t, directory.User{Name: "A", Age: -1}, "age -1 is not between 0 and 150")
	check(t, directory.User{Name: "A", Age: 151}, "age 151 is not between 0 and 150")
}

func check(t *testing.T, user directory.User, want string) {
	t.Helper()
	_, err := directory.Normalize(user)
	switch {
	case want == "" && err != nil:
		t.Errorf("%+q: %v", user, err)
	case want != "" && (!errors.Is(err, directory.ErrInvalid) || !strings.Contains(err.Error(), want)):
		t.Errorf("%+q: got %v, want %s", user, err, want)
	}
}

// Spaces around a value are no part of it. What is stored has none.
func TestNormalizeTakesSpacesAway(t *testing.T) {
	spaced := directory.User{ID: 1, Name: "\u00a0 Ann Lee\t\r\n", Age: 3, Email: " a@b\u3000"}
	got, err := directory.Normalize(spaced)
	if want := (directory.User{ID: 1, Name: "Ann Lee", Age: 3, Email: "a@b"}); err != nil || got != want {
		t.Errorf("got %+q, %v", got, err)
	}
	if err := spaced.Validate(); !errors.Is(err, directory.ErrInvalid) || !strings.Contains(err.Error(), "has spaces around it") {
		t.Errorf("what was not normalized is valid: %v", err)
	}
	if err := (&directory.User{Name: "A", Email: "a@b "}).Validate(); err == nil {
		t.Error("an email with a space after it is valid")
	}
}

// What a Directory writes is normalized, whoever calls it.
func TestPutNormalizes(t *testing.T) {
	d := newDirectory(t, openStore(t, filepath.Join(t.TempDir(), "roster.db")), directory.Config{})
	put(t, d, directory.User{ID: 1, Name: " Ann\u3000", Email: "a@b\n"})
	users, err := d.Users(t.Context(), []int32{1})
	if want := (directory.User{ID: 1, Name: "Ann", Email: "a@b"}); err != nil || len(users) != 1 || *users[0] != want {
		t.Errorf("%v, %v", users, err)
	}
	err = storetest.Put(t.Context(), d, directory.User{ID: 2, Name: "B"}, directory.User{ID: 3, Name: "\u200b"})
	if !errors.Is(err, directory.ErrInvalid) || !strings.HasPrefix(err.Error(), "id 3: ") {
		t.Errorf("got %v", err)
	}
	if found := names(t, d, 2, 3); found != "" {
		t.Errorf("%s was written", found)
	}
}
