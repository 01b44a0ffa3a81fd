// Package auth is who may call: tokens and certificates, each with a name and a
// role, kept in one file. It knows nothing of users, of HTTP or of RPC.
//
//	live, err := auth.Open("tokens.json", log)
//	if err != nil {
//		return err // says what is wrong with the file and what to do
//	}
//	go live.Watch(ctx) // follows the file
//	entry, err := live.Set().Token(secret, time.Now())
//
// # Secrets
//
// A token is "roster_", 43 letters and digits for 32 random bytes, and 6 for
// the CRC-32 of what is before. The prefix lets scanners of repositories and
// logs recognise one, the checksum tells a typing error from a token that was
// revoked, and all of it is in the alphabet of RFC 6750 §2.1 and selected by a
// double click.
//
// The file has the SHA-256 of each token, without its prefix, and not the
// token. A slow, salted hash such as bcrypt protects passwords, which can be
// guessed; 256 random bits cannot, so a fast hash is as safe (NIST SP 800-63B
// §5.1.2.2 asks for no more from 112 bits on), and checking one token costs a
// fraction of a microsecond.
//
// # Timing
//
// Set.Token hashes what it is given, finds the entry by the first 8 bytes of
// the hash, and compares all 32 in constant time. A caller who measures the
// look-up closely can at most learn whether some token's hash starts as that of
// a guess does. That is no step towards the token: the hash of the next guess
// has nothing to do with it, and even the whole hash does not lead back.
package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Role is what a caller may do. A greater one includes the lesser.
type Role uint8

// The roles.
const (
	None  Role = iota // nobody in particular
	Read              // look users up
	Write             // change them, too
)

// ParseRole reads "read" or "write".
func ParseRole(name string) (Role, error) {
	switch name {
	case "read":
		return Read, nil
	case "write":
		return Write, nil
	}
	return None, fmt.Errorf("role %q is not read or write", name)
}

// String is the role's name in the file and on the command line.
func (r Role) String() string {
	switch r {
	case Read:
		return "read"
	case Write:
		return "write"
	}
	return "none"
}

// MarshalText implements encoding.TextMarshaler.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Role) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRole(string(text))
	return err
}

// Entry is one token, or one certificate, of the file.
type Entry struct {
	// ID is 8 hexadecimal digits, one of its kind in the file.
	ID string `json:"id"`
	// Name is who calls with it; one of its kind in the file.
	Name string `json:"name"`
	Role Role   `json:"role"`
	// SHA256 is the hash of the token without its prefix, as 64 hexadecimal
	// digits. An entry has either it or Certificate.
	SHA256 string `json:"sha256,omitempty"`
	// Certificate is the name in a client certificate that this entry is for.
	Certificate string    `json:"certificate,omitempty"`
	Created     time.Time `json:"created"`
	// Expires is when the entry ceases to count, by the clock of the server;
	// zero is never.
	Expires time.Time `json:"expires,omitzero"`
}

// Expired tells whether the entry counts no more at now.
func (e *Entry) Expired(now time.Time) bool { return !e.Expires.IsZero() && !now.Before(e.Expires) }

// Why a token that was presented is no good.
var (
	// ErrMalformed: it is no token of Roster's.
	ErrMalformed = errors.New("what was sent is not a token of Roster, or was mistyped or cut: " +
		"a token is " + prefix + " and 49 letters and digits")
	// ErrUnknown: no token of the file is it.
	ErrUnknown = errors.New("the token is not known here: it was revoked, or is another server's")
)

// ExpiredError is that of a token which was good until Entry.Expires.
type ExpiredError struct {
	Entry *Entry
	Now   time.Time
}

// Error names the token and both times, since either clock may be off.
func (e *ExpiredError) Error() string {
	return fmt.Sprintf("the token %q expired at %s, and it is %s by this server's clock", e.Entry.Name,
		e.Entry.Expires.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

// maxName bounds a name, in bytes. It is in every line that is logged of a call.
const maxName = 128

// checkName refuses a name that would disturb a log or a table.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > maxName:
		return fmt.Errorf("the name has %d bytes, the most is %d", len(name), maxName)
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("the name %q begins or ends with a space", name)
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }):
		return fmt.Errorf("the name %q has a character that cannot be printed", name)
	}
	return nil
}
