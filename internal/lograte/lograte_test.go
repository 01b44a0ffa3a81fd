package lograte

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

func TestALineSaysHowManyWereLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := New(rate.Every(time.Second), 2)
		for n, want := range []bool{true, true, false, false, false} {
			if leftOut, ok := limit.Allow(); ok != want || leftOut != 0 {
				t.Errorf("line %d: allowed %v with %d left out, want %v and 0", n, ok, leftOut, want)
			}
		}
		time.Sleep(time.Second)
		if leftOut, ok := limit.Allow(); !ok || leftOut != 3 {
			t.Errorf("a second later: allowed %v with %d left out, want true and 3", ok, leftOut)
		}
		time.Sleep(time.Second)
		if leftOut, ok := limit.Allow(); !ok || leftOut != 0 {
			t.Errorf("two seconds later: allowed %v with %d left out, want true and 0", ok, leftOut)
		}
	})
	if got := LeftOut(0); got != nil {
		t.Errorf("none left out is %v, want no attribute", got)
	}
}
