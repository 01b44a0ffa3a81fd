package boundedgzip

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"
)

var errTooLong = errors.New("too long")

func compress(t *testing.T, size int) io.Reader {
	t.Helper()
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	if _, err := w.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &compressed
}

func TestAMessageIsReadUpToTheBound(t *testing.T) {
	r := New(1000, func() error { return errTooLong })
	for _, test := range []struct {
		size int
		want error
	}{{0, nil}, {999, nil}, {1000, nil}, {1001, errTooLong}, {1 << 24, errTooLong}, {1000, nil}} {
		if err := r.Reset(compress(t, test.size)); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if !errors.Is(err, test.want) || len(got) > 1001 || err == nil && len(got) != test.size {
			t.Errorf("of %d bytes, %d were read, error %v, want %v", test.size, len(got), err, test.want)
		}
		if n, err := r.Read(make([]byte, 1)); test.want != nil && (n != 0 || !errors.Is(err, test.want)) {
			t.Errorf("after the error, %d more and %v", n, err)
		}
	}
}
