package main

import (
	"slices"
	"strings"
	"testing"
)

func TestIDsAreReadAsOnThePage(t *testing.T) {
	for text, want := range map[string][]int32{
		"7":                     {7},
		"1,2":                   {1, 2},
		"1, 2; 3":               {1, 2, 3},
		"[1,2]":                 {1, 2},
		"5-9":                   {5, 6, 7, 8, 9},
		"5 - 7":                 {5, 6, 7},
		"5- 7":                  {5, 6, 7},
		"5..7":                  {5, 6, 7},
		"5\u20137":              {5, 6, 7},
		"5 -7":                  {5, -7},
		"-7":                    {-7},
		"\u22127":               {-7},
		"-3--1":                 {-3, -2, -1},
		"-1-1":                  {-1, 0, 1},
		"1-2,3-4":               {1, 2, 3, 4},
		"2 2":                   {2, 2},
		"2147483646-2147483647": {2147483646, 2147483647},
	} {
		got, err := parseIDs(strings.Split(text, " "))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"1-2-3", "a", "0x10", "1e3", "2147483648", "1-2147483648", "--5", "-", "1-200000", "1-99999 1-2"} {
		if got, err := parseIDs([]string{text}); err == nil {
			t.Errorf("%q: %d ids", text, len(got))
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"serve", "get", "health", "import", "token", "version", "max-batch", "addr"}
	for typed, want := range map[string]string{
		"sevre": "serve", "serv": "serve", "evrse": "", "gte": "get", "got": "get", "heatlh": "health", "improt": "import",
		"tokne": "token", "Version": "version", "max-bacth": "max-batch", "maxbatch": "max-batch", "adrr": "addr", "x": "", "": "",
	} {
		if got := nearest(typed, words); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}

func TestCounted(t *testing.T) {
	if got := counted(1, "user") + ", " + counted(0, "user") + ", " + counted(int64(2), "row"); got != "1 user, 0 users, 2 rows" {
		t.Error(got)
	}
}
