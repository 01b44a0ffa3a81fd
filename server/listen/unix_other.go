//go:build !unix

package listen

import (
	"context"
	"fmt"
	"net"
)

func openUnix(_ context.Context, config Config, _ string) (net.Listener, error) {
	return nil, fmt.Errorf("%s %s: Unix sockets need a Unix system", config.Flag, config.Addr)
}
