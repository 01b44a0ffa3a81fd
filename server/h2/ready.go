package h2

// readyQueue is a list of streams that have something to send, in the order in which they get their
// turn.
type readyQueue struct {
	head, tail *stream
	n          int
}

// push adds s to the end of the queue, unless it is in the queue.
func (q *readyQueue) push(s *stream) {
	if s.queued {
		return
	}
	s.queued = true
	if q.tail == nil {
		q.head = s
	} else {
		q.tail.nextReady = s
	}
	q.tail = s
	q.n++
}

// pop removes the first stream of a queue that is not empty.
func (q *readyQueue) pop() *stream {
	s := q.head
	q.head = s.nextReady
	if q.head == nil {
		q.tail = nil
	}
	q.n--
	s.nextReady, s.queued = nil, false
	return s
}

// remove removes a stream that has been closed, wherever in the queue it is. Otherwise a peer could
// fill the queue with streams that it has reset.
func (q *readyQueue) remove(s *stream) {
	if !s.queued {
		return
	}
	var before *stream
	for r := q.head; r != s; r = r.nextReady {
		before = r
	}
	if before == nil {
		q.head = s.nextReady
	} else {
		before.nextReady = s.nextReady
	}
	if q.tail == s {
		q.tail = before
	}
	q.n--
	s.nextReady, s.queued = nil, false
}
