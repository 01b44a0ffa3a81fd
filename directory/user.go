package directory

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// User is one entry of the directory.
//
// The rules of the fields hold for everything that is written, whether it comes from a file or by a
// call; [Normalize] applies them. The rules of proto/roster/v1 are the same. Users that a store has
// from before a rule are still served, and [User.Validate] tells which rule they break.
type User struct {
	// ID is the key; any int32.
	ID int32
	// Name is required: 1 to MaxNameBytes bytes of UTF-8, at least one of its characters visible (a
	// letter, a digit, punctuation or a symbol). It must not contain control characters, line breaks,
	// characters that are invisible or change the direction of the text around them, or U+FFFD, which
	// stands for a character that was lost. Joiners and marks that scripts need are allowed.
	Name string
	// Age is in years, 0 to MaxAge.
	Age int32
	// Email is empty or one e-mail address of at most MaxEmailBytes bytes, as the HTML Standard
	// defines it (§ 4.10.5.1.5) and with letters beyond ASCII (RFC 6531): a local part, an @, and a
	// domain. So there are no spaces, no quotes, no second address, and no name before the address.
	Email string
}

// The bounds of a User's fields. MaxEmailBytes is RFC 5321 §4.5.3.1: 64 for the local part, the @
// and 255 for the domain.
const (
	MaxNameBytes  = 256
	MaxAge        = 150
	MaxEmailBytes = 320
)

// maxLabel is the most characters of one label of a domain (RFC 1035 §2.3.4).
const maxLabel = 63

// Normalize returns u as it is to be written: without the spaces (of Unicode, line breaks included)
// around its name and its email, which count for their length. Its error is that of Validate.
// Whatever takes users from outside calls it before it writes them.
func Normalize(u User) (User, error) {
	if err := u.checkLength(); err != nil {
		return u, err
	}
	u.Name = strings.TrimSpace(u.Name)
	u.Email = strings.TrimSpace(u.Email)
	return u, u.Validate()
}

// Validate reports the first field that breaks its rule, wrapped in ErrInvalid. No Store accepts a
// user that is not valid, but it may have some from before a rule.
func (u *User) Validate() error {
	if err := u.checkLength(); err != nil {
		return err
	}
	if wrong := checkName(u.Name); wrong != "" {
		return fmt.Errorf("%w: name %s", ErrInvalid, wrong)
	}
	if u.Age < 0 || u.Age > MaxAge {
		return fmt.Errorf("%w: age %d is not between 0 and %d", ErrInvalid, u.Age, MaxAge)
	}
	if wrong := checkEmail(u.Email); wrong != "" {
		return fmt.Errorf("%w: email %s", ErrInvalid, wrong)
	}
	return nil
}

func (u *User) checkLength() error {
	switch {
	case len(u.Name) > MaxNameBytes:
		return fmt.Errorf("%w: name has %d bytes, the limit is %d", ErrInvalid, len(u.Name), MaxNameBytes)
	case len(u.Email) > MaxEmailBytes:
		return fmt.Errorf("%w: email has %d bytes, the limit is %d", ErrInvalid, len(u.Email), MaxEmailBytes)
	}
	return nil
}

// checkName returns what is wrong with a name, empty if nothing is.
func checkName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case isPrintableASCII(name) && name[0] != ' ' && name[len(name)-1] != ' ':
		return ""
	}
	if wrong := checkText(name); wrong != "" {
		return wrong
	}
	if !strings.ContainsFunc(name, func(r rune) bool { return unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) }) {
		return fmt.Sprintf("%q has no visible character", name)
	}
	return ""
}

// checkEmail returns what is wrong with an email, empty if nothing is.
func checkEmail(email string) string {
	if email == "" || isPlainEmail(email) {
		return ""
	}
	if !isPrintableASCII(email) {
		if wrong := checkText(email); wrong != "" {
			return wrong
		}
	}
	local, domain, found := strings.Cut(email, "@")
	switch {
	case !found:
		return fmt.Sprintf("%q has no @", email)
	case local == "" || domain == "":
		return fmt.Sprintf("%q lacks what is before or after the @", email)
	case strings.Contains(domain, "@"), strings.ContainsAny(email, ";,"):
		return fmt.Sprintf("%q is more than one address", email)
	}
	for _, r := range local {
		if !isLocal(r) {
			return fmt.Sprintf("%q has a %q, which an address must not contain", email, r)
		}
	}
	for label := range strings.SplitSeq(domain, ".") {
		if wrong := checkLabel(label); wrong != "" {
			return fmt.Sprintf("%q has a domain that %s", email, wrong)
		}
	}
	return ""
}

// isPlainEmail reports whether an email is one of those that nearly all are: letters and digits of
// ASCII with single dots and hyphens. An import checks every user twice, so they are checked quickly.
func isPlainEmail(email string) bool {
	at := strings.IndexByte(email, '@')
	if at <= 0 || len(email)-at > maxLabel {
		return false
	}
	for _, c := range []byte(email[:at]) {
		if !isAlphanumeric(rune(c)) && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	separated := true
	for _, c := range []byte(email[at+1:]) {
		switch {
		case isAlphanumeric(rune(c)):
			separated = false
		case (c == '.' || c == '-') && !separated:
			separated = true
		default:
			return false
		}
	}
	return !separated
}

// checkLabel returns what is wrong with one label of a domain.
func checkLabel(label string) string {
	switch {
	case label == "":
		return "has a dot at its begin or end, or two in a row"
	case utf8.RuneCountInString(label) > maxLabel:
		return fmt.Sprintf("has a part of more than %d characters", maxLabel)
	case label[0] == '-' || label[len(label)-1] == '-':
		return "has a part with a hyphen at its begin or end"
	}
	for _, r := range label {
		if !isAlphanumeric(r) && r != '-' && !(r >= utf8.RuneSelf && unicode.In(r, unicode.L, unicode.M, unicode.N)) {
			return fmt.Sprintf("contains %q", r)
		}
	}
	return ""
}

// isLocal reports whether r may be in the part of an address before the @.
func isLocal(r rune) bool {
	return isAlphanumeric(r) || r >= utf8.RuneSelf && !unicode.IsSpace(r) ||
		r < utf8.RuneSelf && strings.IndexByte(".!#$%&'*+/=?^_`{|}~-", byte(r)) >= 0
}

func isAlphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

func isPrintableASCII(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// checkText returns what no name and no email may have: bytes that are not UTF-8, spaces around it,
// or a character that isUnsafe.
func checkText(text string) string {
	if !utf8.ValidString(text) {
		return "is not UTF-8"
	}
	if strings.TrimSpace(text) != text {
		return fmt.Sprintf("%q has spaces around it", text)
	}
	for _, r := range text {
		switch {
		case !isUnsafe(r):
		case unicode.IsControl(r):
			return fmt.Sprintf("%q has a control character", text)
		case r == utf8.RuneError:
			return fmt.Sprintf("%q has U+FFFD, the mark of a character that was lost in an earlier conversion", text)
		default:
			return fmt.Sprintf("%q has %U, which is invisible or changes the direction of text", text, r)
		}
	}
	return ""
}

// isUnsafe reports whether r is a control character, a line break, a character that nobody can see
// or that changes the direction of the text around it (Unicode Standard Annex #9), or the mark of a
// lost character. Not among them are U+200C and U+200D, which join letters in Persian, in the scripts
// of India and in emoji, and the marks of direction U+061C, U+200E and U+200F, which change only
// where punctuation stands.
func isUnsafe(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r <= 0x9f: // C0, DEL and C1
	case r == 0xad: // soft hyphen
	case r == 0x115f, r == 0x1160, r == 0x3164, r == 0xffa0, r == 0x2800: // letters and a symbol that are blank
	case r == 0x180e, r == 0x200b, r == 0xfeff: // without a width
	case r >= 0x2028 && r <= 0x202e: // line breaks; embeddings and overrides
	case r >= 0x2060 && r <= 0x206f: // invisible operators; isolates
	case r >= 0xfff0 && r <= 0xffff: // specials, U+FFFD among them
	case r >= 0xe0000 && r <= 0xe0fff: // tags
	default:
		return false
	}
	return true
}
