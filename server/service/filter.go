package service

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"example.com/roster/directory"
)

// The grammar of a filter is a part of AIP-160:
//
//	filter = [ term { "AND" term } ]
//	term   = ( "name" | "email" ) "=" value
//	value  = `"` { character | `\"` | `\\` | `\*` } [ "*" ] `"`
//
// White space may stand between the tokens. Whatever is beyond it is refused, with its place, since a
// filter that was read in another way than it was meant finds the wrong people.
type filterParser struct {
	text string
	at   int // the byte that is looked at
}

// parseFilter returns the filter that text describes.
func parseFilter(text string) (directory.Filter, error) {
	p := filterParser{text: text}
	var filter directory.Filter
	given := map[string]bool{}
	p.skipSpace()
	if p.done() {
		return filter, nil
	}
	for {
		if err := p.term(&filter, given); err != nil {
			return directory.Filter{}, err
		}
		p.skipSpace()
		if p.done() {
			return filter, nil
		}
		start := p.at
		switch word := p.word(); {
		case word == "AND":
		case strings.EqualFold(word, "and"):
			return directory.Filter{}, p.wrong(start, "%q is to be written AND", word)
		case word != "":
			return directory.Filter{}, p.wrong(start, "%s is not known here: terms are joined by AND alone", quoted(word))
		default:
			return directory.Filter{}, p.wrong(start, "%s is too much here: terms are joined by AND", p.next())
		}
		p.skipSpace()
	}
}

// term reads one term into filter. given has the fields of the terms before it.
func (p *filterParser) term(filter *directory.Filter, given map[string]bool) error {
	start := p.at
	field := p.word()
	switch {
	case field == "" && p.done():
		return p.wrong(start, `a term is missing: a term is like name = "Ann" or email = "ann@*"`)
	case field == "":
		return p.wrong(start, `%s is no field: a term is like name = "Ann" or email = "ann@*"`, p.next())
	case field == "NOT" || field == "OR":
		return p.wrong(start, "%s is not known here: terms are joined by AND alone", field)
	case field != "name" && field != "email":
		return p.wrong(start, "%s cannot be filtered by: use name or email", quoted(field))
	case given[field]:
		return p.wrong(start, "%s is given twice", field)
	}
	given[field] = true
	p.skipSpace()
	if !p.take('=') {
		return p.wrong(p.at, "%s stands where the = after %s is expected: no other comparison is known here", p.next(), field)
	}
	p.skipSpace()
	value, whole, err := p.value(field)
	if err != nil {
		return err
	}
	key := directory.FoldKey(value)
	if field == "name" {
		filter.NamePrefix, filter.NameIs = key, whole
	} else {
		filter.EmailPrefix, filter.EmailIs = key, whole
	}
	return nil
}

// value reads a value in quotes. It is not the whole of a text, but the beginning, if a * ends it.
func (p *filterParser) value(field string) (value string, whole bool, err error) {
	start := p.at
	if !p.take('"') {
		return "", false, p.wrong(start, `%s stands where a value is expected: write it in double quotes, as in %s = "ann*"`, p.next(), field)
	}
	var text strings.Builder
	for !p.done() {
		switch c := p.text[p.at]; c {
		case '"':
			p.at++
			return text.String(), true, nil
		case '*':
			if !strings.HasPrefix(p.text[p.at:], `*"`) {
				return "", false, p.wrong(p.at, `a * is possible at the end of a value only: write \* for the character`)
			}
			p.at += len(`*"`)
			return text.String(), false, nil
		case '\\':
			if p.at+1 == len(p.text) || strings.IndexByte(`"\*`, p.text[p.at+1]) < 0 {
				return "", false, p.wrong(p.at, `a backslash stands before ", * or another backslash only: write \\ for the character`)
			}
			text.WriteByte(p.text[p.at+1])
			p.at += 2
		default:
			text.WriteByte(c)
			p.at++
		}
	}
	return "", false, p.wrong(start, "the value that begins here has no quote at its end")
}

// word reads letters, digits, dots and underscores.
func (p *filterParser) word() string {
	start := p.at
	for !p.done() {
		c := p.text[p.at]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.') {
			break
		}
		p.at++
	}
	return p.text[start:p.at]
}

func (p *filterParser) take(c byte) bool {
	if p.done() || p.text[p.at] != c {
		return false
	}
	p.at++
	return true
}

func (p *filterParser) skipSpace() {
	for !p.done() && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *filterParser) done() bool { return p.at == len(p.text) }

// next names what comes next, for an error.
func (p *filterParser) next() string {
	if p.done() {
		return "the end"
	}
	r, _ := utf8.DecodeRuneInString(p.text[p.at:])
	return fmt.Sprintf("%q", string(r))
}

// wrong is the error about what is at a byte of the filter.
func (p *filterParser) wrong(at int, format string, values ...any) error {
	return violation("filter", "FILTER_SYNTAX", fmt.Sprintf("column %d: %s", 1+utf8.RuneCountInString(p.text[:at]), fmt.Sprintf(format, values...)))
}

// quoted is a text of a request as an error quotes it.
func quoted(text string) string { return fmt.Sprintf("%q", cutRunes(text, maxValueRunes)) }

// parseOrder returns the order that text asks for.
func parseOrder(text string) (byName, descending bool, err error) {
	words := strings.Fields(text)
	switch {
	case len(words) == 0:
		return false, false, nil
	case strings.Contains(text, ","):
		return false, false, violation("order_by", "ORDER_UNKNOWN", fmt.Sprintf("%s has more than one field: order by id or by name alone", quoted(text)))
	case words[0] != "id" && words[0] != "name":
		return false, false, violation("order_by", "ORDER_UNKNOWN", fmt.Sprintf("%s cannot be ordered by: use id or name", quoted(words[0])))
	case len(words) == 2 && words[1] == "desc":
		return words[0] == "name", true, nil
	case len(words) > 1:
		return false, false, violation("order_by", "ORDER_UNKNOWN", fmt.Sprintf("after %s stands %s, only desc may: without it the order ascends",
			words[0], quoted(strings.Join(words[1:], " "))))
	}
	return words[0] == "name", false, nil
}
