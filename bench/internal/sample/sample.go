// Package sample is the data that every peer serves: the users of
// examples/users.csv, read by hand so that a peer links no code of Roster
// that a program of its kind would not.
package sample

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strconv"

	"example.com/roster/examples"
)

// User is one row of the file.
type User struct {
	ID    int32
	Name  string
	Age   int32
	Email string
}

// Users returns the users by id.
func Users() (map[int32]User, error) {
	rows, err := csv.NewReader(bytes.NewReader(examples.Users)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read the sample users: %w", err)
	}
	users := make(map[int32]User, len(rows))
	for _, row := range rows[1:] {
		id, err := strconv.ParseInt(row[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("sample users: id: %w", err)
		}
		age, err := strconv.ParseInt(row[2], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("sample users: age: %w", err)
		}
		users[int32(id)] = User{ID: int32(id), Name: row[1], Age: int32(age), Email: row[3]}
	}
	return users, nil
}

// IDs returns n ids that are all known. The file has 300 users, so a longer
// list asks for them again: a repeated id is answered each time.
func IDs(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(i%300) + 1
	}
	return ids
}
