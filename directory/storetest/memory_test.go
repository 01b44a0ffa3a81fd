package storetest_test

import (
	"testing"

	"example.com/roster/directory"
	"example.com/roster/directory/storetest"
)

// The model that tests compare stores with keeps the contract, too.
func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Opener {
		data := storetest.NewMemory()
		return func() (directory.Store, error) { return data.Open(), nil }
	})
}
