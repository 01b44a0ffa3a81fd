// This program looks users up. Run it with "go run ." in examples/go of a
// checkout of Roster, whose go.mod says where the client package is.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"example.com/roster/client"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.New("http://localhost:50051", client.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	users, err := c.Users(ctx, []int32{1, 2})
	if err != nil {
		log.Fatal(err)
	}
	for _, user := range users {
		fmt.Println(user.Name, user.Age, user.Email)
	}
}
