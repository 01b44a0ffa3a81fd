package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

// oneOfEach returns a set with a reader, a writer, a token that expires and a certificate, and
// their secrets by name.
func oneOfEach(t testing.TB) (*Set, map[string]string) {
	t.Helper()
	var entries []Entry
	secrets := make(map[string]string)
	for _, each := range []struct {
		name    string
		role    Role
		expires time.Time
	}{{"reader", Read, time.Time{}}, {"writer", Write, time.Time{}}, {"guest", Read, now.Add(time.Hour)}} {
		var err error
		if entries, _, secrets[each.name], err = NewToken(entries, each.name, each.role, now, each.expires); err != nil {
			t.Fatal(err)
		}
	}
	entries, _, err := NewCertificate(entries, "billing", "billing.example.com", Write, now, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := NewSet(entries)
	if err != nil {
		t.Fatal(err)
	}
	return set, secrets
}

func TestATokenIsKnownByItsSecret(t *testing.T) {
	set, secrets := oneOfEach(t)
	for name, role := range map[string]Role{"reader": Read, "writer": Write, "guest": Read} {
		entry, err := set.Token(secrets[name], now)
		if err != nil || entry.Name != name || entry.Role != role {
			t.Errorf("%s: %v, %v", name, entry, err)
		}
	}
	if entry, err := set.Token(secrets["reader"], now.AddDate(100, 0, 0)); err != nil || entry.Name != "reader" {
		t.Errorf("a token without an end, in a century: %v, %v", entry, err)
	}
	if set.Len() != 4 {
		t.Errorf("%d entries, want 4", set.Len())
	}
}

func TestWrongTokensSayWhatIsWrong(t *testing.T) {
	set, secrets := oneOfEach(t)
	good := secrets["reader"]
	swapped := []byte(good)
	for i := len(prefix); ; i++ {
		if swapped[i] != swapped[i+1] {
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			break
		}
	}
	stranger := newSecret()
	for name, test := range map[string]struct {
		secret string
		at     time.Time
		want   string
	}{
		"another server's":      {stranger, now, "the token is not known here: it was revoked, or is another server's"},
		"empty":                 {"", now, "not a token of Roster"},
		"two letters swapped":   {string(swapped), now, "mistyped or cut"},
		"cut":                   {good[:len(good)-1], now, "mistyped or cut"},
		"one letter more":       {good + "a", now, "mistyped or cut"},
		"in another case":       {strings.ToUpper(good), now, "mistyped or cut"},
		"without its prefix":    {good[len(prefix):], now, "mistyped or cut"},
		"a token of another":    {"ghp_" + good[4:], now, "mistyped or cut"},
		"a digit of no base 62": {good[:20] + "-" + good[21:], now, "mistyped or cut"},
		"a megabyte":            {strings.Repeat("a", 1<<20), now, "mistyped or cut"},
		"the hash":              {prefix + hashOf(good)[:tokenLength-len(prefix)], now, "mistyped or cut"},
		"expired":               {secrets["guest"], now.Add(time.Hour), `the token "guest" expired at 2025-06-01T13:00:00Z, and it is 2025-06-01T13:00:00Z by this server's clock`},
	} {
		entry, err := set.Token(test.secret, test.at)
		if err == nil || entry != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, %v, want %q", name, entry, err, test.want)
			continue
		}
		if test.secret != "" && strings.Contains(err.Error(), test.secret) {
			t.Errorf("%s: the error tells the token: %v", name, err)
		}
	}
	if _, err := set.Token(secrets["guest"], now.Add(time.Hour-time.Nanosecond)); err != nil {
		t.Errorf("a moment before its end: %v", err)
	}
	if expired := (*ExpiredError)(nil); !errors.As(err(set.Token(secrets["guest"], now.Add(time.Hour))), &expired) {
		t.Error("the error of an expired token is no ExpiredError")
	}
}

func err(_ any, err error) error { return err }

func TestACertificateHasTheRoleOfItsEntry(t *testing.T) {
	set, _ := oneOfEach(t)
	if entry := set.Certificate("billing.example.com", now); entry == nil || entry.Role != Write || entry.Name != "billing" {
		t.Errorf("got %v", entry)
	}
	for _, other := range []string{"", "billing", "billing.example.com.evil.example", "BILLING.example.com"} {
		if entry := set.Certificate(other, now); entry != nil {
			t.Errorf("%q has the entry %q", other, entry.Name)
		}
	}
	entries, _, err := NewCertificate(nil, "x", "x", Write, now, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if set, err = NewSet(entries); err != nil || set.Certificate("x", now.Add(time.Minute)) != nil {
		t.Errorf("an expired entry counts (%v)", err)
	}
}

func TestSecretsAreUniformAndWellFormed(t *testing.T) {
	seen := make(map[string]bool)
	for range 200 {
		secret := newSecret()
		if seen[secret] || !wellFormed(secret) || len(secret) != tokenLength {
			t.Fatalf("%q", secret)
		}
		seen[secret] = true
		// A single wrong character is noticed.
		for i := range secret {
			wrong := []byte(secret)
			if wrong[i]++; wellFormed(string(wrong)) {
				t.Fatalf("%s passes for well-formed, made of %s", wrong, secret)
			}
		}
	}
}

func TestNamesThatCannotBeLogged(t *testing.T) {
	for name, want := range map[string]string{
		"":                       "the name is empty",
		" a":                     "begins or ends with a space",
		"a\nb":                   "cannot be printed",
		"a\x1b[31m":              "cannot be printed",
		"\xff":                   "cannot be printed",
		"a\u202eb":               "cannot be printed",
		strings.Repeat("x", 129): "the name has 129 bytes, the maximum is 128",
	} {
		if _, _, _, err := NewToken(nil, name, Read, now, time.Time{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	for _, name := range []string{"a", "batch import", "Zoë", "spiffe://example.com/ns/a/sa/b", strings.Repeat("x", 128)} {
		if _, _, _, err := NewToken(nil, name, Read, now, time.Time{}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestNamesAndIDsAreOfOneEntryEach(t *testing.T) {
	entries, first, _, err := NewToken(nil, "a", Read, now, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", first.ID} {
		if _, _, _, err := NewToken(entries, name, Read, now, time.Time{}); err == nil || !strings.Contains(err.Error(), "choose another name, or revoke that one") {
			t.Errorf("a second %q: %v", name, err)
		}
	}
	entries, _, err = NewCertificate(entries, "b", "b.example.com", Read, now, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := NewCertificate(entries, "c", "b.example.com", Write, now, time.Time{}); err == nil || !strings.Contains(err.Error(), "is for that certificate already") {
		t.Errorf("a second entry for a certificate: %v", err)
	}
	if _, _, err := Revoke(entries, "nobody"); err == nil || !strings.Contains(err.Error(), `no entry has the name or id "nobody": roster token list shows those there are`) {
		t.Errorf("got %v", err)
	}
	left, revoked, err := Revoke(entries, first.ID)
	if err != nil || revoked.Name != "a" || len(left) != 1 || left[0].Name != "b" || len(entries) != 2 {
		t.Errorf("left %v, revoked %v, %v", left, revoked, err)
	}
}

func BenchmarkToken(b *testing.B) {
	set, secrets := oneOfEach(b)
	for _, which := range []string{"writer", "unknown"} {
		secret := secrets[which]
		if secret == "" {
			secret = newSecret()
		}
		b.Run(which, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if entry, err := set.Token(secret, now); (entry == nil) == (err == nil) {
					b.Fatal(entry, err)
				}
			}
		})
	}
}

func ExampleNewToken() {
	entries, entry, secret, err := NewToken(nil, "batch-import", Write, time.Now(), time.Time{})
	if err != nil {
		panic(err)
	}
	set, err := NewSet(entries)
	if err != nil {
		panic(err)
	}
	found, err := set.Token(secret, time.Now())
	fmt.Println(found.Name, found.Role, found.ID == entry.ID, err)
	// Output: batch-import write true <nil>
}
