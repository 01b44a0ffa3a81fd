package client

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	rosterv1 "example.com/roster/gen/go/roster/v1"
)

func change(revision int64, id int32) *rosterv1.WatchUsersResponse {
	return &rosterv1.WatchUsersResponse{Event: &rosterv1.WatchUsersResponse_Change{Change: &rosterv1.Change{
		Kind: rosterv1.Change_KIND_UPDATED, Id: id, Revision: revision, User: &rosterv1.User{Id: id}}}}
}

func existing(id int32) *rosterv1.WatchUsersResponse {
	return &rosterv1.WatchUsersResponse{Event: &rosterv1.WatchUsersResponse_Change{Change: &rosterv1.Change{
		Kind: rosterv1.Change_KIND_EXISTING, Id: id, User: &rosterv1.User{Id: id}}}}
}

func progress(revision int64, epoch string) *rosterv1.WatchUsersResponse {
	return &rosterv1.WatchUsersResponse{Event: &rosterv1.WatchUsersResponse_Progress{Progress: &rosterv1.Progress{Revision: revision, Epoch: epoch}}}
}

// taken returns what messages tell, in words.
func taken(t *testing.T, w *watching, messages ...*rosterv1.WatchUsersResponse) (told []string) {
	t.Helper()
	for _, message := range messages {
		event, news, err := w.take(message)
		switch {
		case err != nil:
			told = append(told, "another history")
		case !news:
		case event.Progress != nil:
			told = append(told, fmt.Sprintf("progress %d", event.Progress.Revision))
		default:
			told = append(told, fmt.Sprintf("%v %d", event.Change.Kind, event.Change.ID))
		}
	}
	return told
}

func expectTold(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// A stream that breaks within a revision is gone on from there, and what it repeats is not told again.
func TestAWatchThatBreaksWithinARevision(t *testing.T) {
	w, err := newWatching(WatchOptions{From: &Position{4, "e"}})
	if err != nil {
		t.Fatal(err)
	}
	w.request()
	expectTold(t, taken(t, w, change(5, 1), change(6, 1), change(6, 2)), "updated 1", "updated 1", "updated 2")
	request := w.request()
	if request.GetFromRevision() != 5 || request.GetEpoch() != "e" {
		t.Fatalf("it goes on from %d of epoch %s, want 5 of e", request.GetFromRevision(), request.GetEpoch())
	}
	expectTold(t, taken(t, w, change(6, 1), change(6, 2), change(6, 3), progress(6, "e"), change(7, 1)), "updated 3", "progress 6", "updated 1")
	if from := w.request().GetFromRevision(); from != 6 {
		t.Errorf("it goes on from %d, want 6", from)
	}
	// What was told up to a progress is not told again, whatever a server sends.
	expectTold(t, taken(t, w, change(6, 3), progress(6, "e"), change(7, 1), change(8, 2)), "progress 6", "updated 2")
	expectTold(t, taken(t, w, progress(9, "another")), "another history")
	expectTold(t, taken(t, w, progress(2, "e")), "another history")
}

func TestAWatchThatBreaksBeforeAllUsersWereTold(t *testing.T) {
	w, err := newWatching(WatchOptions{FromBeginning: true, ProgressInterval: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if !w.request().GetFromBeginning() || w.resetsOnFailure {
		t.Fatal("it does not begin at the beginning")
	}
	expectTold(t, taken(t, w, existing(1)), "existing 1")
	if !w.resetsOnFailure {
		t.Fatal("users that may be gone by the next stream would stay")
	}
	if event := w.reset("broken"); event.Reset != "broken" || !w.request().GetFromBeginning() {
		t.Fatalf("it goes on with %v", event)
	}
	expectTold(t, taken(t, w, existing(2), progress(3, "e")), "existing 2", "progress 3")
	if request := w.request(); request.GetFromRevision() != 3 || request.GetEpoch() != "e" || w.resetsOnFailure {
		t.Errorf("it goes on with %v", request)
	}
}

// A watch whose place is gone comes back for all users soon, however long the server was away before.
func TestHowSoonAWatchComesBack(t *testing.T) {
	w, err := newWatching(WatchOptions{From: &Position{4, "e"}})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("attempt %d, want %d", got, want)
		}
	}
	expect(w.attempts(0, false, false), 1)
	expect(w.attempts(7, false, false), 8) // away
	expect(w.attempts(8, true, false), 1)
	expect(w.attempts(8, false, true), 1) // the place is gone
	w.reset("gone")
	expect(w.attempts(1, false, true), 2) // and so is the beginning
}

// A look-up that is held up tells how old its answer is once it is given.
func TestALookUpThatStandsStillIsAsOldAsItsAnswer(t *testing.T) {
	const bound = 200 * time.Millisecond
	c := &Copy{config: CopyConfig{MaxStaleness: bound}, users: map[int32]Record{1: {ID: 1, Name: "Ann"}}}
	c.mu.Lock()
	c.completeAt.Store(clock())
	answered := make(chan error)
	go func() {
		_, _, err := c.Get(t.Context(), 1)
		answered <- err
	}()
	time.Sleep(2 * bound)
	c.mu.Unlock()
	if err := <-answered; !errors.Is(err, ErrStale) {
		t.Errorf("got %v, want ErrStale", err)
	}
}

// The age of a copy counts from before the question whose answer it has reached.
func TestTheAgeOfACopyCountsFromBeforeTheQuestion(t *testing.T) {
	c := &Copy{loading: make(map[int32]Record), fresh: make(chan struct{})}
	expect := func(complete int64) {
		t.Helper()
		if got := c.completeAt.Load(); got != complete {
			t.Errorf("complete at %d, want %d", got, complete)
		}
	}
	ann := Record{ID: 1, Name: "Ann"}
	c.take(Event{Change: &Change{Kind: Existing, ID: 1, User: &ann}})
	c.answered(10, Position{5, "e"})
	expect(0)
	c.take(Event{Progress: &Position{4, "e"}})
	expect(0) // the revision 5 has not come
	c.take(Event{Change: &Change{Kind: Deleted, ID: 1, Revision: 5}})
	expect(0) // nor all of it
	c.take(Event{Progress: &Position{5, "e"}})
	expect(10)
	c.answered(20, Position{5, "e"})
	expect(20)
	c.answered(30, Position{1, "another"})
	expect(20)
	c.take(Event{Reset: "another epoch"})
	c.answered(40, Position{1, "another"})
	expect(20)
	c.take(Event{Progress: &Position{1, "another"}})
	expect(40)
	if c.Len() != 0 {
		t.Errorf("%d users", c.Len())
	}
}
