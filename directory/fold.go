package directory

import (
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// FoldKey returns the key that texts are compared by without regard to case: in Unicode's normal form C
// and with full case folding (Unicode Standard, section 3.13). Stores keep it, so what it returns for a
// text must not change from one version of Roster to the next without a migration.
func FoldKey(text string) string {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return norm.NFC.String(cases.Fold().String(norm.NFC.String(text)))
		}
	}
	return strings.ToLower(text)
}
