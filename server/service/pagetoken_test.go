package service

import (
	"encoding/base64"
	"math"
	"strings"
	"testing"

	"example.com/roster/directory"
)

func TestPageTokensComeBack(t *testing.T) {
	for _, want := range []pageToken{
		{kind: usersToken, of: ofList(directory.Filter{NamePrefix: "a"}, true, false), state: directory.State{Epoch: "e", Revision: 7}, after: directory.PageKey{NameKey: "ann", ID: 3}},
		{kind: usersToken, state: directory.State{Revision: math.MaxInt64}, after: directory.PageKey{ID: math.MinInt32}},
		{kind: usersToken, after: directory.PageKey{ID: math.MaxInt32, NameKey: strings.Repeat("\U0001f469", 300)}},
		{kind: changesToken, state: directory.State{Epoch: "e", Revision: 9}, cursor: directory.Cursor{Epoch: "e", Revision: 8, Skip: 1 << 30}},
	} {
		text := want.String()
		if got, err := parsePageToken(text, want.kind); err != nil || *got != want {
			t.Errorf("%+v became %+v, %v", want, got, err)
		}
		if len(text) > 2048 {
			t.Errorf("a token has %d bytes, its rule in the proto allows 2048", len(text))
		}
	}
}

func TestPageTokensThatAreNone(t *testing.T) {
	token := pageToken{kind: usersToken, state: directory.State{Epoch: "e1", Revision: 7}, after: directory.PageKey{NameKey: "ann", ID: 3}}
	good := token.String()
	raw, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(text, want string) {
		t.Helper()
		_, err := parsePageToken(text, usersToken)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "begin with the first page") {
			t.Errorf("%q: got %v, want %s", text, err, want)
			return
		}
		if told := violations(t, err); told[0].GetField() != "page_token" {
			t.Errorf("%q: the details are %v", text, told)
		}
	}
	for _, text := range []string{"x", "2", "not base64!", good[:len(good)-1] + "!", " " + good, good + "\n", "AAAA", strings.Repeat("A", 5)} {
		refused(text, "page_token: is not a page token, or was cut")
	}
	for i := range raw {
		for bit := range 8 {
			changed := append([]byte(nil), raw...)
			changed[i] ^= 1 << bit
			refused(base64.RawURLEncoding.EncodeToString(changed), "page_token: was changed, cut")
		}
	}
	for end := 1 + tokenSum; end < len(raw); end++ {
		refused(base64.RawURLEncoding.EncodeToString(raw[:end]), "was changed, cut")
	}
	refused(base64.RawURLEncoding.EncodeToString(append(raw, 0)), "was changed, cut")
	refused((&pageToken{kind: changesToken}).String(), "is of another method")
}

func TestWhatAPageTokenIsOf(t *testing.T) {
	seen := map[[tokenSum]byte]directory.Filter{}
	for _, filter := range []directory.Filter{{}, {NamePrefix: "a"}, {NamePrefix: "a", NameIs: true}, {EmailPrefix: "a"}, {EmailIs: true},
		{NamePrefix: "ab"}, {NamePrefix: "a", EmailPrefix: "b"}} {
		for _, byName := range []bool{false, true} {
			for _, descending := range []bool{false, true} {
				of := ofList(filter, byName, descending)
				if other, ok := seen[of]; ok {
					t.Errorf("%+v, by name %v, descending %v is the same as one of %+v", filter, byName, descending, other)
				}
				seen[of] = filter
			}
		}
	}
}

func FuzzPageToken(f *testing.F) {
	f.Add((&pageToken{kind: usersToken}).String())
	f.Add((&pageToken{kind: changesToken}).String())
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range []byte{usersToken, changesToken} {
			if token, err := parsePageToken(text, kind); err == nil && token.String() != text {
				t.Errorf("%q is read as the token %q", text, token)
			}
		}
	})
}
