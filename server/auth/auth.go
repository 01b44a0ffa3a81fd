// Package auth manages access: tokens and client certificates, each with a name and a role, kept in
// one file. It does not depend on users, HTTP or RPC.
//
//	live, err := auth.Open("tokens.json", log)
//	if err != nil {
//		return err // says what is wrong with the file and what to do
//	}
//	go live.Watch(ctx) // reloads the file when it changes
//	entry, err := live.Set().Token(secret, time.Now())
//
// # Secrets
//
// A token is "roster_", then 43 letters and digits for 32 random bytes, then 6 for the CRC-32 of
// what comes before. The prefix lets scanners of repositories and logs recognise a token. The
// checksum distinguishes a mistyped token from one that was revoked. All characters are in the
// alphabet of RFC 6750 §2.1, and a double click selects the whole token.
//
// The file has the SHA-256 of each token, without its prefix, and not the token itself. A slow,
// salted hash such as bcrypt protects passwords, which can be guessed; 256 random bits cannot be
// guessed, so a fast hash is as safe (NIST SP 800-63B §5.1.2.2 requires no more from 112 bits on),
// and checking a token takes a fraction of a microsecond.
//
// # Timing
//
// Set.Token hashes the presented token, finds the entry by the first 8 bytes of the hash, and
// compares all 32 bytes in constant time. By measuring the look-up, a caller can learn at most
// whether some token's hash starts like the hash of a guess. That does not help to find the token:
// the hash of the next guess is unrelated, and a token cannot be computed from its hash.
package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Role says what a caller may do. Each role includes those before it.
type Role uint8

// The roles.
const (
	None  Role = iota // unauthenticated
	Read              // look up users
	Write             // and change them
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

// String returns the role's name in the file and on the command line.
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

// Entry is one token or one client certificate of the file.
type Entry struct {
	// ID is 8 hexadecimal digits, unique in the file.
	ID string `json:"id"`
	// Name says who uses the entry. It is unique in the file.
	Name string `json:"name"`
	Role Role   `json:"role"`
	// SHA256 is the hash of the token without its prefix, as 64 hexadecimal digits. An entry has
	// either SHA256 or Certificate.
	SHA256 string `json:"sha256,omitempty"`
	// Certificate is the identity in the client certificate that this entry is for.
	Certificate string    `json:"certificate,omitempty"`
	Created     time.Time `json:"created"`
	// Expires is when the entry expires, by the server's clock; zero means never.
	Expires time.Time `json:"expires,omitzero"`
}

// Expired reports whether the entry has expired at now.
func (e *Entry) Expired(now time.Time) bool { return !e.Expires.IsZero() && !now.Before(e.Expires) }

// Why a presented token is refused. An expired one gives an [ExpiredError].
var (
	// ErrMalformed means that it is not a token of Roster.
	ErrMalformed = errors.New("what was sent is not a token of Roster, or was mistyped or cut: " +
		"a token is " + prefix + " and 49 letters and digits")
	// ErrUnknown means that the token is well-formed but not in the file.
	ErrUnknown = errors.New("the token is not known here: it was revoked, or is another server's")
)

// ExpiredError is the error of a token that was valid until Entry.Expires.
type ExpiredError struct {
	Entry *Entry
	Now   time.Time
}

// Error names the token's entry and both times, since either clock may be wrong.
func (e *ExpiredError) Error() string {
	return fmt.Sprintf("the token %q expired at %s, and it is %s by this server's clock", e.Entry.Name,
		e.Entry.Expires.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

// maxName bounds a name, in bytes. Every log line of a call contains it.
const maxName = 128

// checkName refuses a name that would garble a log or a table.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > maxName:
		return fmt.Errorf("the name has %d bytes, the maximum is %d", len(name), maxName)
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("the name %q begins or ends with a space", name)
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }):
		return fmt.Errorf("the name %q has a character that cannot be printed", name)
	}
	return nil
}
