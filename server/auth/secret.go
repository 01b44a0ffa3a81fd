package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"hash/crc32"
	"math/big"
	"strings"
)

const (
	prefix = "roster_"
	// randomBytes of a token take randomDigits in base 62; its checksum takes
	// checkDigits.
	randomBytes  = 32
	randomDigits = 43
	checkDigits  = 6
	tokenLength  = len(prefix) + randomDigits + checkDigits

	digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// newSecret makes a token.
func newSecret() string {
	var random [randomBytes]byte
	rand.Read(random[:]) // never fails (crypto/rand.Read)
	body := prefix + base62(new(big.Int).SetBytes(random[:]), randomDigits)
	return body + checksum(body)
}

func checksum(text string) string {
	return base62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(text)))), checkDigits)
}

// base62 is n in count digits, the first the most significant.
func base62(n *big.Int, count int) string {
	out := make([]byte, count)
	base, digit := big.NewInt(int64(len(digits))), new(big.Int)
	for i := count - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		out[i] = digits[digit.Int64()]
	}
	return string(out)
}

// wellFormed tells whether secret could be a token: one with a typing error is
// not. It says nothing of whether somebody has it.
func wellFormed(secret string) bool {
	body, ok := strings.CutPrefix(secret, prefix)
	if !ok || len(secret) != tokenLength || strings.Trim(body, digits) != "" {
		return false
	}
	end := tokenLength - checkDigits
	return checksum(secret[:end]) == secret[end:]
}

// hash is the SHA-256 of what follows the prefix of a token: with the prefix it
// would not fit one block of SHA-256, and take three times as long.
func hash(secret string) [sha256.Size]byte {
	var body [tokenLength - len(prefix)]byte
	copy(body[:], secret[len(prefix):])
	return sha256.Sum256(body[:])
}

// hashOf is what the file has of a token.
func hashOf(secret string) string {
	sum := hash(secret)
	return hex.EncodeToString(sum[:])
}

// newID makes the id of an entry.
func newID() string {
	var random [4]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}
