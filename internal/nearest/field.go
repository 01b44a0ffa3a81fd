package nearest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// position finds where protojson's errors say that text does not fit, by line and by character.
var position = regexp.MustCompile(`\(line (\d+):(\d+)\)`)

// maxPath is the length in bytes up to which the path of a field is named.
const maxPath = 200

// Field adds to the error of protojson for text the path of the field that does not fit, such as
// parts[2].weight, if the error does not name that field itself. Any other error it returns as it is.
func Field(err error, text []byte) error {
	if err == nil {
		return nil
	}
	found := position.FindStringSubmatch(err.Error())
	if found == nil {
		return err
	}
	line, _ := strconv.Atoi(found[1])
	column, _ := strconv.Atoi(found[2])
	path, key := pathAt(text, offset(text, line, column))
	if path == "" || len(path) > maxPath || strings.Contains(err.Error(), "field "+key+":") || strings.Contains(err.Error(), strconv.Quote(key)) {
		return err
	}
	return fmt.Errorf("%w: in the field %s", err, path)
}

// offset is the position in bytes of a character, both counted from 1.
func offset(text []byte, line, column int) int {
	at := 0
	for ; line > 1; line-- {
		end := bytes.IndexByte(text[at:], '\n')
		if end < 0 {
			return len(text)
		}
		at += end + 1
	}
	for ; column > 1 && at < len(text); column-- {
		_, n := utf8.DecodeRune(text[at:])
		at += n
	}
	return at
}

// pathAt returns the path of the value at a position, and the last key of it.
func pathAt(text []byte, at int) (path, key string) {
	type level struct {
		key   string
		index int // of the current element of a list; -1 in an object
		isKey bool
	}
	var levels []level
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	for {
		// What comes before the token is white space, a colon or a comma.
		before := int(decoder.InputOffset())
		for before < len(text) && strings.IndexByte(" \t\r\n:,", text[before]) >= 0 {
			before++
		}
		if before >= at {
			break
		}
		token, err := decoder.Token()
		if err != nil {
			break
		}
		last := len(levels) - 1
		switch token {
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:last]
			last--
		case json.Delim('{'), json.Delim('['):
			next := level{index: -1, isKey: true}
			if token == json.Delim('[') {
				next = level{}
			}
			levels = append(levels, next)
			continue
		default:
			if levels != nil && levels[last].index < 0 && levels[last].isKey {
				levels[last].key, levels[last].isKey = fmt.Sprint(token), false
				continue
			}
		}
		// A value has ended.
		switch {
		case last < 0:
		case levels[last].index >= 0:
			levels[last].index++
		default:
			levels[last].key, levels[last].isKey = "", true
		}
	}
	var b strings.Builder
	for _, l := range levels {
		switch {
		case l.index >= 0 && b.Len() > 0:
			fmt.Fprintf(&b, "[%d]", l.index)
		case l.key != "":
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(l.key)
			key = l.key
		}
	}
	return b.String(), key
}
