package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// counted returns "1 user", "2 users".
func counted[N int | int64](n N, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// nearest returns the word that was perhaps meant by typed, empty if none is near enough.
func nearest(typed string, words []string) string {
	near, least := "", 1+max(1, min(2, len(typed)/3))
	for _, word := range words {
		if d := distance(strings.ToLower(typed), strings.ToLower(word)); d < least {
			near, least = word, d
		}
	}
	return near
}

// distance counts the letters that have to be inserted, left out, changed or swapped with their
// neighbour to make one word of the other (the distance of Damerau, for neighbours only).
func distance(a, b string) int {
	var before, above, row []int
	for j := range len(b) + 1 {
		above = append(above, j)
	}
	for i := 1; i <= len(a); i++ {
		row = append(make([]int, 0, len(b)+1), i)
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, before[j-2]+1)
			}
			row = append(row, d)
		}
		before, above = above, row
	}
	return above[len(b)]
}

// maxIDs is how many ids a command line may have, with those of its ranges. It is far above what a
// server takes in one call, so that its limit is the one that people meet, and low enough that a slip
// such as 1-999999999 is told at once.
const maxIDs = 100_000

var (
	// rangeSign finds a hyphen, dash or dots that join two numbers: what touches the left number, or
	// stands alone between two. In "5 -9" the hyphen is a minus.
	rangeSign = regexp.MustCompile(`(\d)(?:\s*(?:\x{2013}|\x{2014}|\.\.+)\s*|-\s*|\s+-\s+)(-?\d)`)
	// idSeparator is what may stand between ids, that of pasted lists included.
	idSeparator = regexp.MustCompile(`[\s,;\[\]()"']+`)
	idOrRange   = regexp.MustCompile(`^(-?\d+)(?:\.\.(-?\d+))?$`)
)

// parseIDs returns the ids of the command line. They are written as on the page: 7, 1,2 or 5-9.
func parseIDs(args []string) ([]int32, error) {
	var ids []int32
	text := strings.ReplaceAll(strings.Join(args, " "), "\u2212", "-") // the minus sign of typesetters
	text = rangeSign.ReplaceAllString(text, "$1..$2")
	for _, token := range idSeparator.Split(text, -1) {
		if token == "" {
			continue
		}
		typed := strings.ReplaceAll(token, "..", "-")
		match := idOrRange.FindStringSubmatch(token)
		if match == nil {
			return nil, usage("%q is not an id: ids are whole numbers, as in 7, or ranges, as in 5-9", typed)
		}
		from, err := strconv.ParseInt(match[1], 10, 32)
		to := from
		if err == nil && match[2] != "" {
			to, err = strconv.ParseInt(match[2], 10, 32)
		}
		switch {
		case err != nil:
			return nil, usage("%q is not an id: ids are whole numbers from -2147483648 to 2147483647", typed)
		case from > to:
			return nil, usage("%s runs backwards: write %d-%d", typed, to, from)
		case int64(len(ids))+to-from >= maxIDs:
			return nil, usage("%s makes more than %d ids, the maximum of one command", typed, maxIDs)
		}
		for id := from; id <= to; id++ {
			ids = append(ids, int32(id))
		}
	}
	if len(ids) == 0 {
		return nil, usage("give one id or more, as in 7, 1,2 or 5-9")
	}
	return ids, nil
}
