package powercut

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A power cut takes back what no sync had confirmed, and nothing else.
func TestCut(t *testing.T) {
	const size = sector
	is, was := strings.Repeat("n", size), strings.Repeat("o", size)
	write := func(part uint8, offset, size int64, before string) []byte {
		return record{Kind: aWrite, Part: part, Offset: offset, Size: size}.append(nil, []byte(before))
	}
	mark := func(kind, part uint8, handle uint64) []byte {
		return record{Kind: kind, Part: part, Handle: handle}.append(nil, nil)
	}
	over := write(0, 0, size, was)
	for name, test := range map[string]struct {
		records [][]byte
		want    string
		lost    int
	}{
		"nothing was written":                 {nil, is, 0},
		"a write":                             {[][]byte{over}, was, 1},
		"a write that was synced":             {[][]byte{over, mark(syncing, 0, 1), mark(synced, 0, 1)}, is, 0},
		"a write that was being synced":       {[][]byte{over, mark(syncing, 0, 1)}, was, 1},
		"a sync that another one overtakes":   {[][]byte{over, mark(syncing, 0, 1), mark(syncing, 0, 2), mark(synced, 0, 2), over, mark(synced, 0, 1)}, was, 1},
		"a write while another one is synced": {[][]byte{mark(syncing, 0, 1), over, mark(synced, 0, 1)}, was, 1},
		"a sync of another file":              {[][]byte{over, mark(syncing, 1, 1), mark(synced, 1, 1)}, was, 1},
		"a write at the end":                  {[][]byte{write(0, size, size-1, "")}, is[1:], 1},
		"a file that became shorter":          {[][]byte{write(0, size, 2*size, was)}, is + was, 1},
		"two writes of one place":             {[][]byte{over, write(0, 0, size, is)}, was, 2},
		"a file that was deleted since":       {[][]byte{write(1, 0, size, was), mark(deleted, 1, 0)}, is, 0},
		"a record that was cut off":           {[][]byte{over[:len(over)-1]}, is, 0},
		"a header that was cut off":           {[][]byte{over[:5]}, is, 0},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			for name, content := range map[string]string{path: is, path + suffix: string(bytes.Join(test.records, nil))} {
				if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			lost, err := Cut(path, all())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != test.want {
				t.Errorf("left %q, %v, want %q", got, err, test.want)
			}
			if lost.Writes != test.lost || lost.Bytes != lost.Dropped {
				t.Errorf("%+v, want %d writes lost", lost, test.lost)
			}
			if _, err := os.Stat(path + suffix); err == nil {
				t.Error("the records are still there")
			}
		})
	}
}

// all is a source by which a cut keeps nothing.
func all() *rand.Rand {
	for seed := uint64(0); ; seed++ {
		if rand.New(rand.NewPCG(seed, 0)).IntN(2) != 0 {
			return rand.New(rand.NewPCG(seed, 0))
		}
	}
}

// Of a write that was not synced any sectors may be on the disk.
func TestACutKeepsSomeSectors(t *testing.T) {
	const sectors = 64
	is, was := bytes.Repeat([]byte("n"), sectors*sector), bytes.Repeat([]byte("o"), sectors*sector)
	some := 0
	for seed := range uint64(20) {
		path := filepath.Join(t.TempDir(), "file")
		records := record{Kind: aWrite, Size: int64(len(was))}.append(nil, was)
		for name, content := range map[string][]byte{path: is, path + suffix: records} {
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		lost, err := Cut(path, rand.New(rand.NewPCG(seed, 0)))
		if err != nil {
			t.Fatal(err)
		}
		left, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for n := range sectors {
			if left := part(left, n*sector); !bytes.Equal(left, part(is, n*sector)) && !bytes.Equal(left, part(was, n*sector)) {
				t.Fatalf("sector %d is %.10q", n, left)
			}
		}
		if int64(bytes.Count(left, []byte("o"))) != lost.Dropped {
			t.Errorf("%v, and %d bytes are as before", lost, bytes.Count(left, []byte("o")))
		}
		if lost.Dropped > 0 && lost.Dropped < lost.Bytes {
			some++
		}
	}
	if some == 0 {
		t.Error("no cut kept some sectors and dropped others")
	}
}
