package inflate

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
)

var errTooLong = errors.New("too long")

func compress(t *testing.T, format Format, size int) *bytes.Buffer {
	t.Helper()
	var compressed bytes.Buffer
	w := format.NewCompressor()
	w.Reset(&compressed)
	if _, err := w.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &compressed
}

func TestAMessageIsReadUpToTheBound(t *testing.T) {
	for _, format := range Formats {
		r := New(format, 1000, func() error { return errTooLong })
		for _, test := range []struct {
			size int
			want error
		}{{0, nil}, {999, nil}, {1000, nil}, {1001, errTooLong}, {1 << 20, errTooLong}, {1000, nil}} {
			if err := r.Reset(compress(t, format, test.size)); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if !errors.Is(err, test.want) || len(got) > 1001 || err == nil && len(got) != test.size {
				t.Errorf("%v: of %d bytes, %d were read, error %v, want %v", format, test.size, len(got), err, test.want)
			}
			if n, err := r.Read(make([]byte, 1)); test.want != nil && (n != 0 || !errors.Is(err, test.want)) {
				t.Errorf("%v: after the error, %d more and %v", format, n, err)
			}
		}
	}
}

// Connect keeps decompressors for the next message, also after one that was malformed.
func TestAReaderIsUsedAgain(t *testing.T) {
	for _, format := range Formats {
		r := New(format, 1000, func() error { return errTooLong })
		for _, malformed := range []string{"", "malformed", string(compress(t, format, 100).Bytes()[:9])} {
			if err := r.Reset(bytes.NewReader([]byte(malformed))); err == nil {
				if _, err := io.ReadAll(r); err == nil {
					t.Errorf("%v: %q was accepted", format, malformed)
				}
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			_ = r.Reset(http.NoBody)
			if err := r.Reset(compress(t, format, 100)); err != nil {
				t.Fatalf("%v: after %q: %v", format, malformed, err)
			}
			if got, err := io.ReadAll(r); len(got) != 100 || err != nil {
				t.Errorf("%v: after %q, %d bytes and %v", format, malformed, len(got), err)
			}
		}
	}
}

func TestMost(t *testing.T) {
	for _, format := range Formats {
		for _, size := range []int{0, 1, 1000, 1 << 20} {
			if compressed := compress(t, format, size); Most(int64(compressed.Len())) < int64(size) {
				t.Errorf("%v: Most(%d) = %d, but it is %d", format, compressed.Len(), Most(int64(compressed.Len())), size)
			}
		}
	}
}
