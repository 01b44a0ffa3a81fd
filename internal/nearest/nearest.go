// Package nearest adds to the error for an unknown key of a message in JSON the key that was meant.
//
//	err := protojson.Unmarshal(text, m)
//	return nearest.Name(err, m.ProtoReflect().Descriptor())
package nearest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// unknownField finds the key in protojson's error for one that the message does not have: the library
// has no type for that error. Where the text is another one, callers get it without a suggestion.
var unknownField = regexp.MustCompile(`unknown field ("(?:[^"\\]|\\.)*")`)

// The bounds of a comparison: the length in bytes of a key, and the number of those that a message has.
const (
	maxKey  = 100
	maxKeys = 2_000
)

// Name adds to the error of protojson for an unknown key the key that the caller may have meant: the most
// similar one of the message and of those within it. Any other error it returns as it is.
func Name(err error, descriptor protoreflect.MessageDescriptor) error {
	if err == nil {
		return nil
	}
	found := unknownField.FindStringSubmatch(err.Error())
	if found == nil {
		return err
	}
	key, failed := strconv.Unquote(found[1])
	if failed != nil || len(key) > maxKey {
		return err
	}
	known := jsonKeys(descriptor, nil, make(map[protoreflect.FullName]bool))
	best, distance := "", len(key)
	most := 1 + len(key)/3
	for _, candidate := range known {
		if len(candidate) > len(key)+most || len(candidate) < len(key)-most {
			continue
		}
		if d := editDistance(strings.ToLower(key), strings.ToLower(candidate)); d < distance {
			best, distance = candidate, d
		}
	}
	switch {
	case best != "" && distance <= most:
		return fmt.Errorf("%w: do you mean %q?", err, best)
	case len(known) > 0 && len(known) <= 5:
		return fmt.Errorf("%w: %s has %s", err, descriptor.Name(), strings.Join(known, ", "))
	case len(known) == 0:
		return fmt.Errorf("%w: %s has no fields: send {}", err, descriptor.Name())
	}
	return err
}

// jsonKeys appends the keys of a message in JSON and of the messages in it, each message once.
func jsonKeys(message protoreflect.MessageDescriptor, keys []string, seen map[protoreflect.FullName]bool) []string {
	if seen[message.FullName()] || len(keys) > maxKeys {
		return keys
	}
	seen[message.FullName()] = true
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		keys = append(keys, field.JSONName())
		if inner := field.Message(); inner != nil {
			keys = jsonKeys(inner, keys, seen)
		}
	}
	return keys
}

// editDistance is how many characters have to be inserted, removed, replaced or swapped with the next
// one to make b of a (the optimal string alignment distance).
func editDistance(a, b string) int {
	previous, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(row[j]+cost, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], previous[j-1]+1)
			}
		}
		previous, row, next = row, next, previous
	}
	return row[len(b)]
}
