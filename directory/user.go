package directory

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// User is one entry of the directory.
type User struct {
	// ID is the key; any int32.
	ID int32
	// Name is required: 1 to MaxNameBytes bytes of UTF-8.
	Name string
	// Age is in years, 0 to MaxAge.
	Age int32
	// Email may be empty; otherwise it has an @ and at most MaxEmailBytes bytes.
	Email string
}

// The bounds of a User's fields. MaxEmailBytes is RFC 5321 §4.5.3.1: 64 for the local part, the @
// and 255 for the domain.
const (
	MaxNameBytes  = 256
	MaxAge        = 150
	MaxEmailBytes = 320
)

// Validate reports the first field that breaks its bounds, wrapped in ErrInvalid. Every Store holds
// valid users only.
func (u *User) Validate() error {
	switch {
	case u.Name == "":
		return fmt.Errorf("%w: name is empty", ErrInvalid)
	case len(u.Name) > MaxNameBytes:
		return fmt.Errorf("%w: name has %d bytes, the limit is %d", ErrInvalid, len(u.Name), MaxNameBytes)
	case !utf8.ValidString(u.Name):
		return fmt.Errorf("%w: name is not UTF-8", ErrInvalid)
	case hasControl(u.Name):
		return fmt.Errorf("%w: name %q has a control character", ErrInvalid, u.Name)
	case u.Age < 0 || u.Age > MaxAge:
		return fmt.Errorf("%w: age %d is not between 0 and %d", ErrInvalid, u.Age, MaxAge)
	case u.Email == "":
		return nil
	case len(u.Email) > MaxEmailBytes:
		return fmt.Errorf("%w: email has %d bytes, the limit is %d", ErrInvalid, len(u.Email), MaxEmailBytes)
	case !utf8.ValidString(u.Email):
		return fmt.Errorf("%w: email is not UTF-8", ErrInvalid)
	case hasControl(u.Email):
		return fmt.Errorf("%w: email %q has a control character", ErrInvalid, u.Email)
	case !strings.Contains(u.Email, "@"):
		return fmt.Errorf("%w: email %q has no @", ErrInvalid, u.Email)
	}
	return nil
}

func hasControl(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}
