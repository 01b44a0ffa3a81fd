package e2e

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"connectrpc.com/connect"

	"example.com/roster/client"
)

// The Go client over every protocol, codec and compression.
func TestGoClient(t *testing.T) {
	_, address := serve(t, "--max-batch", "1000")
	users := sample(t)
	for _, protocol := range []client.Protocol{client.GRPC, client.GRPCWeb, client.Connect} {
		for _, config := range []client.Config{
			{Protocol: protocol},
			{Protocol: protocol, Gzip: true},
			{Protocol: protocol, JSON: true},
			{Protocol: protocol, JSON: true, Gzip: true},
		} {
			t.Run(fmt.Sprintf("%v, JSON %v, gzip %v", protocol, config.JSON, config.Gzip), func(t *testing.T) {
				c, err := client.New("http://"+address, config)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := c.WaitReady(t.Context()); err != nil {
					t.Fatal(err)
				}
				many := make([]int32, 1000)
				for i := range many {
					many[i] = int32(i*7%400) - 50 // some unknown, some twice
				}
				for _, ids := range [][]int32{{}, {2, 1}, {3, 3, 9999, 1, 3}, {-1, 0}, many} {
					var want []client.User
					for _, id := range ids {
						if u, ok := users[id]; ok {
							want = append(want, client.User{Name: u.Name, Age: int32(u.Age), Email: u.Email})
						}
					}
					got, err := c.Users(t.Context(), ids)
					if err != nil || !slices.Equal(got, want) {
						t.Errorf("%d ids: got %v, %v\nwant %v", len(ids), got, err, want)
					}
				}
				_, err = c.Users(t.Context(), make([]int32, 1001))
				if failure := (*client.Error)(nil); !errors.As(err, &failure) || connect.CodeOf(err) != connect.CodeResourceExhausted {
					t.Errorf("1001 ids: %v", err)
				}
			})
		}
	}
}
