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
	// In base 62, the randomBytes of a token have randomDigits digits, and its checksum has
	// checkDigits.
	randomBytes  = 32
	randomDigits = 43
	checkDigits  = 6
	tokenLength  = len(prefix) + randomDigits + checkDigits

	digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// newSecret makes a random token.
func newSecret() string {
	var random [randomBytes]byte
	rand.Read(random[:]) // never fails (crypto/rand.Read)
	body := prefix + base62(new(big.Int).SetBytes(random[:]), randomDigits)
	return body + checksum(body)
}

func checksum(text string) string {
	return base62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(text)))), checkDigits)
}

// base62 returns n as count digits, most significant first.
func base62(n *big.Int, count int) string {
	out := make([]byte, count)
	base, digit := big.NewInt(int64(len(digits))), new(big.Int)
	for i := count - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		out[i] = digits[digit.Int64()]
	}
	return string(out)
}

// wellFormed reports whether secret has the form and the checksum of a token, so that a mistyped
// one is recognised. It does not say whether the token is in the file.
func wellFormed(secret string) bool {
	body, ok := strings.CutPrefix(secret, prefix)
	if !ok || len(secret) != tokenLength || strings.Trim(body, digits) != "" {
		return false
	}
	end := tokenLength - checkDigits
	return checksum(secret[:end]) == secret[end:]
}

// hash returns the SHA-256 of a token without its prefix. With the prefix the input would not fit
// one block of SHA-256, and hashing would take three times as long.
func hash(secret string) [sha256.Size]byte {
	var body [tokenLength - len(prefix)]byte
	copy(body[:], secret[len(prefix):])
	return sha256.Sum256(body[:])
}

// hashOf returns the hash of a token as the file has it.
func hashOf(secret string) string {
	sum := hash(secret)
	return hex.EncodeToString(sum[:])
}

// newID makes a random id for an entry.
func newID() string {
	var random [4]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}
