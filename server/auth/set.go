package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Set is the entries of a file, indexed. It is immutable, so any number of goroutines may use it.
type Set struct {
	tokens       map[[8]byte]*token
	certificates map[string]*Entry
}

type token struct {
	hash  [sha256.Size]byte
	entry *Entry
}

// NewSet makes a Set of entries. Its error says which of them is wrong.
func NewSet(entries []Entry) (*Set, error) {
	s := &Set{tokens: make(map[[8]byte]*token), certificates: make(map[string]*Entry)}
	known := make(map[string]string) // names of entries, by their names and ids
	for i := range entries {
		entry := entries[i]
		if err := s.add(&entry, known); err != nil {
			return nil, fmt.Errorf("entry %d (%q): %w", i+1, entry.Name, err)
		}
	}
	return s, nil
}

func (s *Set) add(entry *Entry, known map[string]string) error {
	if err := checkName(entry.Name); err != nil {
		return err
	}
	if id, err := hex.DecodeString(entry.ID); err != nil || len(id) != 4 {
		return fmt.Errorf("id %q is not 8 hexadecimal digits", entry.ID)
	}
	for _, key := range []string{entry.ID, entry.Name} {
		if other, taken := known[key]; taken {
			return fmt.Errorf("%q is already the name or id of entry %q", key, other)
		}
		known[key] = entry.Name
	}
	switch {
	case entry.Role != Read && entry.Role != Write:
		return errors.New("it has no role: want read or write")
	case (entry.SHA256 == "") == (entry.Certificate == ""):
		return errors.New("it needs either sha256 or certificate")
	case entry.Certificate != "":
		if err := checkName(entry.Certificate); err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
		if other, taken := s.certificates[entry.Certificate]; taken {
			return fmt.Errorf("entry %q is already for the certificate %q", other.Name, entry.Certificate)
		}
		s.certificates[entry.Certificate] = entry
		return nil
	}
	hash, err := hex.DecodeString(entry.SHA256)
	if err != nil || len(hash) != sha256.Size {
		return errors.New("sha256 is not 64 hexadecimal digits")
	}
	t := &token{hash: [sha256.Size]byte(hash), entry: entry}
	if other, taken := s.tokens[t.start()]; taken {
		return fmt.Errorf("it has the sha256 of entry %q", other.entry.Name)
	}
	s.tokens[t.start()] = t
	return nil
}

func (t *token) start() [8]byte { return [8]byte(t.hash[:8]) }

// Len returns the number of entries.
func (s *Set) Len() int { return len(s.tokens) + len(s.certificates) }

// Token returns the entry of a presented token. The error is ErrMalformed, ErrUnknown or an
// *ExpiredError; none of them contains the token.
func (s *Set) Token(secret string, now time.Time) (*Entry, error) {
	if len(secret) != tokenLength || secret[:len(prefix)] != prefix {
		return nil, ErrMalformed
	}
	presented := hash(secret)
	found, ok := s.tokens[[8]byte(presented[:8])]
	if !ok || subtle.ConstantTimeCompare(presented[:], found.hash[:]) == 0 {
		if !wellFormed(secret) {
			return nil, ErrMalformed
		}
		return nil, ErrUnknown
	}
	if found.entry.Expired(now) {
		return nil, &ExpiredError{found.entry, now}
	}
	return found.entry, nil
}

// Certificate returns the entry for a client certificate with this identity, nil if there is none
// or it has expired. It relies on TLS to have verified the certificate.
func (s *Set) Certificate(identity string, now time.Time) *Entry {
	entry, ok := s.certificates[identity]
	if !ok || entry.Expired(now) {
		return nil
	}
	return entry
}
