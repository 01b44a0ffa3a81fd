//go:build !unix

package sqlite

import "os"

// On other systems nothing tells that a store is in use, but that its files cannot be renamed.

func lockFile(*os.File, bool) (bool, error) { return true, nil }
func holder(string) (int, error)            { return 0, nil }
func giveTo(string, string)                 {}
func isReadOnlyFileSystem(error) bool       { return false }
func outOfFiles() (uint64, bool)            { return 0, false }
func syncFolder(string) error               { return nil }
