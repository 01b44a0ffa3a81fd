package directory_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"

	"example.com/roster/directory"
	"example.com/roster/directory/sqlite"
)

// A directory answers from memory, in the order asked: a repeated id each time, an unknown one not
// at all. A rendering is kept beside each user for callers that want it encoded.
func Example() {
	ctx := context.Background()
	folder, err := os.MkdirTemp("", "roster-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	store, err := sqlite.Open(ctx, filepath.Join(folder, "roster.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	dir, err := directory.New(ctx, store, directory.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()
	csv := dir.Render("CSV", func(dst []byte, user *directory.Record, _ string) ([]byte, error) {
		dst = append(append(dst, user.Name...), ',')
		return strconv.AppendInt(dst, int64(user.Age), 10), nil
	})

	change := directory.Write{Actor: "example", Creates: []directory.Create{
		{User: directory.User{ID: 1, Name: "Ann", Age: 30}},
		{User: directory.User{ID: 2, Name: "Ben", Age: 41}},
	}}
	if _, err := dir.Write(ctx, change); err != nil {
		log.Fatal(err)
	}
	users, err := dir.Users(ctx, []int32{2, 9, 1, 2})
	if err != nil {
		log.Fatal(err)
	}
	for _, user := range users {
		fmt.Println(user.ID, user.Name)
	}
	entries, err := dir.Entries(ctx, nil, []int32{2, 9})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(entries[0].Rendered(csv), entries[1] == nil)
	// Output:
	// 2 Ben
	// 1 Ann
	// 2 Ben
	// Ben,41 true
}
