package userfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"example.com/roster/directory"
)

// openJSON finds out how the objects of a file are arranged: one a line, in which case a line that
// cannot be read is a bad row like others; or in an array, or over several lines each, in which case
// nothing after it can be read.
func (r *Reader) openJSON(text *bufio.Reader) error {
	start, err := peek(text)
	if err != nil {
		return err
	}
	start = bytes.TrimLeft(start, " \t\r\n")
	switch {
	case len(start) > 0 && start[0] == '[':
		r.notes = append(r.notes, "read as a JSON array")
		return r.openStream(text, true)
	case isSpread(start):
		r.notes = append(r.notes, "read as objects of several lines")
		return r.openStream(text, false)
	}
	lines := bufio.NewScanner(text)
	lines.Buffer(make([]byte, 0, sniffBytes), maxRowBytes)
	r.nextRow = func() (user directory.User, bad bool, err error) {
		for lines.Scan() {
			r.end++
			line := bytes.TrimSpace(lines.Bytes())
			if len(line) == 0 {
				r.blank(1)
				continue
			}
			r.line = r.end
			if r.options.KeepText {
				r.text = string(line)
			}
			user, err = r.options.parseObject(line)
			return user, err != nil, err
		}
		switch err := lines.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			return user, false, fmt.Errorf("line %d: more than %d bytes: is this one object a line?", r.end+1, maxRowBytes)
		case err != nil:
			return user, false, err
		}
		return user, false, io.EOF
	}
	return nil
}

// isSpread reports whether the first object goes over several lines: its first line is the begin of
// one, and the next begins with a key or closes it.
func isSpread(start []byte) bool {
	line, rest, found := bytes.Cut(start, []byte("\n"))
	var syntax *json.SyntaxError
	if err := json.Unmarshal(line, new(json.RawMessage)); !found || !errors.As(err, &syntax) || syntax.Offset < int64(len(line)) {
		return false // complete, or wrong before its end
	}
	rest = bytes.TrimLeft(rest, " \t\r\n")
	return bytes.HasPrefix(line, []byte("{")) && len(rest) > 0 && strings.IndexByte(`"}]:,`, rest[0]) >= 0
}

// openStream reads objects that follow each other in any arrangement.
func (r *Reader) openStream(text io.Reader, array bool) error {
	r.counts.Objects = true
	tape := newTape(text)
	values := json.NewDecoder(tape)
	read := 0 // lines up to the end of the last value
	fail := func(err error) error {
		wrong := (*json.SyntaxError)(nil)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("the file ends before its JSON does: it was cut, get it again")
		case errors.Is(err, errRowTooLong):
			return fmt.Errorf("after line %d: an object of more than %d bytes: the file must be an array of users, or one after another",
				read+1, maxRowBytes)
		case errors.As(err, &wrong):
			return fmt.Errorf("after line %d: not JSON: %w", read+1, err)
		}
		return err
	}
	if array {
		if _, err := values.Token(); err != nil {
			return fail(err)
		}
	}
	r.nextRow = func() (user directory.User, bad bool, err error) {
		if array && !values.More() {
			if _, err := values.Token(); err != nil {
				return user, false, fail(err)
			}
			if _, err := values.Token(); err == nil {
				return user, false, errors.New("something follows the JSON array: the file must be one array")
			} else if err != io.EOF {
				return user, false, fail(err)
			}
			return user, false, io.EOF
		}
		var value json.RawMessage
		err = values.Decode(&value)
		if err == io.EOF && !array {
			return user, false, err
		}
		if err != nil {
			return user, false, fail(err)
		}
		raw := tape.row(values.InputOffset())
		before := raw[:len(raw)-len(value)]
		r.line = read + bytes.Count(before, []byte("\n")) + 1
		read += bytes.Count(raw, []byte("\n"))
		r.end = read + 1
		if r.options.KeepText {
			var compact bytes.Buffer
			if err := json.Compact(&compact, value); err != nil {
				return user, false, fail(err)
			}
			r.text = compact.String()
		}
		user, err = r.options.parseObject(value)
		return user, err != nil, err
	}
	return nil
}

// parseObject returns the user of one object.
func (o *Options) parseObject(object []byte) (user directory.User, err error) {
	// encoding/json replaces invalid UTF-8, and escapes that are no character, instead of failing.
	if !utf8.Valid(object) {
		return user, errors.New("not UTF-8: save the file as UTF-8")
	}
	if escape := loneSurrogate(object); escape != "" {
		return user, fmt.Errorf("%s is half a character, and the other half does not follow", escape)
	}
	keys, values, err := members(object)
	if err != nil {
		return user, err
	}
	var raw [len(Fields)]json.RawMessage
	used := make([]bool, len(keys))
	for i, field := range Fields {
		at, err := find(keys, o.column(field))
		if err != nil {
			return user, err
		}
		if at < 0 {
			continue
		}
		if used[at] {
			return user, fmt.Errorf("%q is used for two fields: see --columns", keys[at])
		}
		used[at] = true
		if string(values[at]) != "null" {
			raw[i] = values[at]
		}
	}
	if err := o.checkKeys(keys, used); err != nil {
		return user, err
	}
	id, name, age, email := raw[0], raw[1], raw[2], raw[3]
	if user.ID, err = jsonNumber("id", id); err == nil {
		user.Name, err = jsonString("name", name)
	}
	if err == nil && (age == nil || string(bytes.TrimSpace(bytes.Trim(age, `"`))) == "") {
		user.Age, err = o.age("")
	} else if err == nil {
		user.Age, err = jsonNumber("age", age)
	}
	if err == nil && email != nil {
		user.Email, err = jsonString("email", email)
	}
	return user, err
}

// checkKeys refuses keys that are used for no field: all of them, or those that appear twice.
func (o *Options) checkKeys(keys []string, used []bool) error {
	var others []string
	for i, key := range keys {
		if used[i] {
			continue
		}
		for _, field := range Fields {
			if o.Columns[field] == "" && simplified(key) == field {
				return fmt.Errorf("%q appears twice, the second time as %s", field, quoted(key))
			}
		}
		others = append(others, quoted(key))
	}
	if len(others) > 0 && !o.IgnoreColumns {
		return fmt.Errorf("unknown: %s; the keys are %s, others are left out with --ignore-columns", strings.Join(others, ", "), fieldList)
	}
	return nil
}

// members returns the keys of an object and their values.
func members(object []byte) (keys []string, values []json.RawMessage, err error) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	token, err := decoder.Token()
	if err == nil && token != json.Delim('{') {
		if kind := kindOf(object); kind != "" {
			return nil, nil, fmt.Errorf("not an object but %s", kind)
		}
	}
	for err == nil && decoder.More() {
		var value json.RawMessage
		if token, err = decoder.Token(); err != nil {
			break
		}
		key, _ := token.(string)
		if err = decoder.Decode(&value); err == nil {
			keys, values = append(keys, key), append(values, value)
		}
	}
	if err == nil {
		_, err = decoder.Token() // the closing brace
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, nil, fmt.Errorf("not a user object: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, nil, errors.New("more than one value on the line")
	}
	return keys, values, nil
}

// kindOf returns what kind of value a JSON text is.
func kindOf(value []byte) string {
	switch value[0] {
	case '[':
		return "array"
	case '{':
		return "object"
	case '"':
		return "string"
	case 't', 'f':
		return "bool"
	case 'n':
		return "null"
	}
	return "number"
}

func jsonNumber(key string, value json.RawMessage) (int32, error) {
	switch {
	case value == nil:
		return 0, fmt.Errorf("%q is missing", key)
	case kindOf(value) != "number":
		return 0, fmt.Errorf("%q is %s, it must be a whole number of 32 bits", key, kindOf(value))
	}
	return number(key, string(value))
}

func jsonString(key string, value json.RawMessage) (text string, err error) {
	switch {
	case value == nil:
		return "", fmt.Errorf("%q is missing", key)
	case kindOf(value) != "string":
		return "", fmt.Errorf("%q is %s, it must be a string", key, kindOf(value))
	}
	return text, json.Unmarshal(value, &text)
}

// loneSurrogate returns an escape in a JSON text that is one half of a character beyond U+FFFF without
// the other (RFC 8259 §8.2), empty if there is none.
func loneSurrogate(text []byte) string {
	if !bytes.Contains(text, []byte(`\u`)) {
		return ""
	}
	unit := func(at int) (uint64, bool) {
		if at+6 > len(text) || text[at] != '\\' || text[at+1] != 'u' {
			return 0, false
		}
		value, err := strconv.ParseUint(string(text[at+2:at+6]), 16, 16)
		return value, err == nil
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		switch value, ok := unit(i); {
		case !ok:
			i++ // the character that is escaped
		case value < 0xd800 || value > 0xdfff:
			i += 5
		default:
			low, ok := unit(i + 6)
			if value > 0xdbff || !ok || low < 0xdc00 || low > 0xdfff {
				return string(text[i : i+6])
			}
			i += 11
		}
	}
	return ""
}
