package h2load

import "testing"

const printed = `starting benchmark...
finished in 1.21s, 41234.50 req/s, 3.93MB/s
requests: 50000 total, 50000 started, 50000 done, 49999 succeeded, 1 failed, 1 errored, 0 timeout
status codes: 49999 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 4.77MB (5000420) total, 390.75KB (400125) headers (space savings 95.56%), 3.10MB (3250000) data
                     min         max         mean         sd        +/- sd
time for request:      120us      9.12ms      3.01ms       901us    68.01%
`

func TestParse(t *testing.T) {
	out, err := parse([]byte(printed))
	if err != nil {
		t.Fatal(err)
	}
	out.text = ""
	if want := (output{rate: 41234.5, succeeded: 49999, failed: 1, ok: 49999, data: 3250000}); out != want {
		t.Errorf("parse gave %+v, want %+v", out, want)
	}
	if err := (Load{ReplyBytes: 65}).check(out, 50000); err == nil {
		t.Error("a failed call passed the check")
	}
	if _, err := parse([]byte("could not connect\n")); err == nil {
		t.Error("output without results was parsed")
	}
}

func TestCheckRefusesAnswersOfAnotherSize(t *testing.T) {
	out := output{succeeded: 10, ok: 10, data: 649}
	if err := (Load{ReplyBytes: 65}).check(out, 10); err == nil {
		t.Error("649 bytes passed for ten answers of 65")
	}
}
