package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// callTokenFlags say who calls a server.
type callTokenFlags struct {
	token   string
	inClear bool
}

func (f *callTokenFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.token, "token", "", "token to call with, or @FILE to read it from; ROSTER_TOKEN keeps it out of the list of processes")
	flags.BoolVar(&f.inClear, "token-in-clear", false, "send the token without TLS to another machine: for a network that is encrypted by itself")
}

// read returns the token, empty if there is none. Its errors do not have it.
func (f *callTokenFlags) read() (string, error) {
	name, isFile := strings.CutPrefix(f.token, "@")
	if !isFile {
		return f.token, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("--token: %w", err)
	}
	defer file.Close()
	const longest = 16 << 10 // of a header
	content, err := io.ReadAll(io.LimitReader(file, longest))
	if err != nil {
		return "", fmt.Errorf("--token: %w", err)
	}
	token := string(bytes.TrimSpace(content))
	if token == "" {
		return "", fmt.Errorf("--token: the file %s is empty", name)
	}
	return token, nil
}
