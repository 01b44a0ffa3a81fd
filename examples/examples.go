// Package examples carries the sample users that `roster serve --sample`
// loads: 300 people who do not exist, in the CSV form that `roster import`
// reads.
package examples

import _ "embed"

// Users is users.csv: the columns id, name, age, email, and ids from 1 on.
//
//go:embed users.csv
var Users []byte
