package sqlite

import (
	"database/sql/driver"
	"fmt"

	"modernc.org/sqlite"

	"example.com/roster/directory"
)

// roster_fold_key is directory.FoldKey for the statements of this package. Nothing in a file refers to
// it, so other programs can open one.
func init() {
	sqlite.MustRegisterDeterministicScalarFunction("roster_fold_key", 1,
		func(_ *sqlite.FunctionContext, arguments []driver.Value) (driver.Value, error) {
			if arguments[0] == nil {
				return nil, nil
			}
			text, ok := arguments[0].(string)
			if !ok {
				return nil, fmt.Errorf("roster_fold_key of %T", arguments[0])
			}
			return directory.FoldKey(text), nil
		})
}

// after is a key that is greater than every key with this prefix, and lower than every other key that is
// greater than the prefix. Keys are compared byte by byte, and no byte of UTF-8 is 0xff.
func after(prefix string) string { return prefix + "\xff" }
