package h2

import "time"

// streamTable knows the state of every stream of a connection (RFC 9113 §5.1). Clients number their
// streams upwards with odd numbers, so a stream is idle until its number or a higher one has been
// used, then open while it is in the map, then closed. The table is guarded by conn.mu.
type streamTable struct {
	open   map[uint32]*stream
	maxID  uint32 // the highest stream that the peer has used
	closed closedStreams
}

// idle reports whether the peer has not used a stream yet. Only HEADERS and PRIORITY may come on an
// idle stream, and no RST_STREAM may be sent on one (RFC 9113 §5.1, §6.4). Streams with even
// numbers stay idle, since the server opens none.
func (t *streamTable) idle(id uint32) bool { return id > t.maxID || id%2 == 0 }

// all returns a copy of the list of open streams.
func (t *streamTable) all() []*stream {
	all := make([]*stream, 0, len(t.open))
	for _, s := range t.open {
		all = append(all, s)
	}
	return all
}

// close moves a stream from open to closed.
func (t *streamTable) close(id uint32, how closeReason, now uint32) {
	delete(t.open, id)
	t.closed.add(id, how, now)
}

// closeReason is how a stream was closed. It decides how a later frame on it is handled (RFC 9113
// §5.1).
type closeReason uint8

const (
	closedByEnd  closeReason = iota + 1 // both sides sent END_STREAM
	closedByPeer                        // the peer reset it
	closedByUs                          // the server reset or refused it; frames may have been on their way
)

// closedStreams remembers how streams were closed. Frames of a stream that the server has reset may
// have been on their way, so such a stream is remembered for a time, closedMemory. If there are too
// many, the oldest are forgotten sooner; for as long as one of them could have been remembered, all
// unknown streams are taken for such. Of the others, the last few are remembered, to tell a client
// that misbehaves what it did.
type closedStreams struct {
	resets []resetStream // the oldest first
	forgot uint32        // the tick when the last one that was forgotten too soon had been closed
	some   bool          // whether there was one

	others []closedStream // up to maxOthers
	next   int            // the element to overwrite next, once there are maxOthers
}

type resetStream struct{ id, at uint32 }

type closedStream struct {
	id  uint32
	how closeReason
}

// closedMemory is longer than any frame is on its way.
const closedMemory = 30 * time.Second

const (
	maxResets = 1024
	maxOthers = 16
)

func (r *closedStreams) add(id uint32, how closeReason, now uint32) {
	if how == closedByUs {
		if len(r.resets) == maxResets {
			r.forgot, r.some = r.resets[maxResets/2-1].at, true
			r.resets = r.resets[:copy(r.resets, r.resets[maxResets/2:])]
		}
		r.resets = append(r.resets, resetStream{id, now})
		return
	}
	if len(r.others) < maxOthers {
		r.others = append(r.others, closedStream{id, how})
		return
	}
	r.others[r.next] = closedStream{id, how}
	r.next = (r.next + 1) % maxOthers
}

// expire forgets the streams that were reset longer than memory ago. Both times are in ticks.
func (r *closedStreams) expire(now, memory uint32) {
	n := 0
	for n < len(r.resets) && expired(now, r.resets[n].at, memory) {
		n++
	}
	if n == len(r.resets) {
		r.resets = nil
	} else {
		r.resets = r.resets[:copy(r.resets, r.resets[n:])]
	}
	if r.some && expired(now, r.forgot, memory) {
		r.some = false
	}
}

// reason returns how id was closed, or 0 if that is not known.
func (r *closedStreams) reason(id uint32) closeReason {
	for i := range r.resets {
		if r.resets[i].id == id {
			return closedByUs
		}
	}
	for i := range r.others {
		if r.others[i].id == id {
			return r.others[i].how
		}
	}
	if r.some {
		return closedByUs
	}
	return 0
}
