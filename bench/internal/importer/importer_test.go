package importer

import (
	"strings"
	"testing"
)

func TestTheShellsTableLacksTheRevisionAlone(t *testing.T) {
	const schema = `CREATE TABLE users (
    id       INTEGER PRIMARY KEY,
    email    TEXT    NOT NULL,
    -- The revision that wrote the row last.
    revision INTEGER NOT NULL
) STRICT;`
	got := revision.ReplaceAllString(schema, "")
	if strings.Contains(got, "revision") || !strings.Contains(got, "email    TEXT    NOT NULL\n) STRICT;") {
		t.Errorf("made\n%s", got)
	}
}
