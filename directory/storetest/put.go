package storetest

import (
	"context"

	"example.com/roster/directory"
)

// A Writer is a directory.Store or a directory.Directory.
type Writer interface {
	Write(context.Context, directory.Write) (directory.Written, error)
}

// Put adds users to a store, or replaces those whose id exists, in one change.
func Put(ctx context.Context, to Writer, users ...directory.User) error {
	change := directory.Write{Actor: "test"}
	for _, user := range users {
		change.Updates = append(change.Updates, directory.Update{User: user, Fields: directory.AllFields, Replace: true})
	}
	_, err := to.Write(ctx, change)
	return err
}
