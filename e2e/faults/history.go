// Package faults breaks a running Roster on purpose, and checks that nothing that it had acknowledged
// was lost, and that nobody who watched was told anything but the truth. Its tests run the real program
// as processes: writers and watchers work while a process is killed, its disk is full, the power is cut, or
// another process works on the same file. A run is made from a seed.
//
// A fault counts only if the store itself, read by another program than Roster, shows that it took effect
// under writes that were acknowledged: see [fault]. A run whose fault took no effect makes it again.
//
// Three things are checked. Each user is a register: porcupine looks for an order of the writes and
// reads that explains what everybody saw. The history has every revision, without a gap, and every
// acknowledged write under its own. And every watch, with all its interruptions, has told the history as
// it is: each change once and in order.
package faults

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// An operation is one call of a writer: a write of a name to a user, or a read of it.
type operation struct {
	id    int32
	write bool
	name  string // that was written, or read
}

// register is the model of a user: it has the name that was written last.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		users := make(map[int32][]porcupine.Operation)
		for _, o := range history {
			id := o.Input.(operation).id
			users[id] = append(users[id], o)
		}
		var parts [][]porcupine.Operation
		for _, part := range users {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return firstName },
	Step: func(state, input, _ any) (bool, any) {
		o := input.(operation)
		if o.write {
			return true, o.name
		}
		return o.name == state.(string), state
	},
	Equal: func(a, b any) bool { return a == b },
}

// firstName is the name of every user before the first write.
const firstName = "First"

// An acknowledged write is one that the server has answered.
type acknowledged struct {
	revision int64
	id       int32
	name     string
}

// A history is what the writers of a run saw. It is safe for concurrent use.
type history struct {
	mu         sync.Mutex
	began      time.Time
	operations []porcupine.Operation
	acks       []acknowledged
	unknown    int            // writes that may or may not have been made
	answers    map[string]int // what was said instead of an acknowledgement, since forget
	highest    int64
}

func (h *history) now() int64 { return time.Since(h.began).Nanoseconds() }

// done records a call that was answered.
func (h *history) done(writer int, o operation, call int64, revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operations = append(h.operations, porcupine.Operation{ClientId: writer, Input: o, Call: call, Return: h.now()})
	h.highest = max(h.highest, revision)
	if o.write {
		h.acks = append(h.acks, acknowledged{revision, o.id, o.name})
	}
}

// lost records a write whose answer never came: it may be made at any time, also after everything else.
func (h *history) lost(writer int, o operation, call int64, answer error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unknown++
	if h.answers == nil {
		h.answers = make(map[string]int)
	}
	h.answers[answer.Error()]++
	h.operations = append(h.operations, porcupine.Operation{ClientId: writer, Input: o, Call: call, Return: 1 << 62})
}

func (h *history) acknowledged() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.acks)
}

// failures is how many writes were not acknowledged.
func (h *history) failures() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.unknown
}

// forget forgets what was said so far instead of an acknowledgement, and said returns it.
func (h *history) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers = nil
}

func (h *history) said() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.answers)
}

// by counts the acknowledged writes of each of so many servers.
func (h *history) by(servers int) []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	count := make([]int, servers)
	for _, a := range h.acks {
		count[serverOf(a.name, servers)]++
	}
	return count
}

// serverOf returns which of so many servers a name was written by.
func serverOf(name string, servers int) int {
	var writer, n int
	if _, err := fmt.Sscanf(name, "W%d N%d", &writer, &n); err != nil {
		panic(name)
	}
	return writer % servers
}

// seen is the highest revision that anybody was told of.
func (h *history) seen() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.highest
}

// A change is what a watch, or the history of the server, says of one user.
type change struct {
	revision int64
	id       int32
	name     string // empty for one that was deleted
}

// check returns what is wrong with a run, nil if nothing is. Truth is the whole history of the server, and
// counts has the revisions of the store, with the number of their changes.
func (h *history) check(truth []change, counts map[int64]int, watches []*watcher) error {
	last := int64(0)
	at := make(map[change]bool, len(truth))
	for _, c := range truth {
		for last != c.revision {
			last++
			if count, ok := counts[last]; !ok || count == 0 && last == c.revision || count > 0 && last < c.revision {
				return fmt.Errorf("the history goes on to revision %d, and the store has %d changes of revision %d", c.revision, count, last)
			}
		}
		counts[last]--
		at[c] = true
	}
	for revision, count := range counts {
		if count != 0 {
			return fmt.Errorf("the store has %d more changes of revision %d than the history", count, revision)
		}
	}
	revisions := make(map[int64]acknowledged)
	for _, a := range h.acks {
		if other, twice := revisions[a.revision]; twice {
			return fmt.Errorf("two writes have revision %d: %+v and %+v", a.revision, other, a)
		}
		revisions[a.revision] = a
		if !at[change(a)] {
			return fmt.Errorf("an acknowledged write is lost: %+v", a)
		}
	}
	for n, w := range watches {
		if w.broken != nil {
			return fmt.Errorf("watch %d: %w", n, w.broken)
		}
		if len(w.told) != len(truth) {
			return fmt.Errorf("watch %d, which came back %d times, told of %d changes, there are %d; %s", n, w.resumed, len(w.told), len(truth), difference(w.told, truth))
		}
		for i := range truth {
			if w.told[i] != truth[i] {
				return fmt.Errorf("watch %d, which came back %d times: %s", n, w.resumed, difference(w.told, truth))
			}
		}
	}
	if result := porcupine.CheckOperationsTimeout(register, h.operations, time.Minute); result != porcupine.Ok {
		return fmt.Errorf("no order explains what writers and readers saw: porcupine says %v", result)
	}
	return nil
}

func difference(told, truth []change) string {
	for i := range truth {
		if i >= len(told) {
			return fmt.Sprintf("it ends before %+v", truth[i])
		}
		if told[i] != truth[i] {
			return fmt.Sprintf("it has %+v in the place of %+v", told[i], truth[i])
		}
	}
	return "it has more"
}
