package h2

import "time"

// bucket is a token bucket. It reads the clock only when it is empty.
type bucket struct {
	tokens, burst, rate int
	filled              time.Time // when tokens were last added
}

func newBucket(burst, rate int) bucket {
	return bucket{tokens: burst, burst: burst, rate: rate, filled: time.Now()}
}

// take removes a token. It returns false if there is none.
func (b *bucket) take() bool {
	if b.tokens > 0 {
		b.tokens--
		return true
	}
	now := time.Now()
	earned := int(now.Sub(b.filled).Seconds() * float64(b.rate))
	if earned <= 0 {
		return false
	}
	b.filled = now
	b.tokens = min(earned, b.burst) - 1
	return true
}

// earn adds n tokens, up to the burst.
func (b *bucket) earn(n int) {
	b.tokens = min(b.tokens+n, b.burst)
}

// chargeOverhead takes a token for a frame that carries neither a request nor data. It returns
// false if the peer has sent too many.
func (c *conn) chargeOverhead() bool {
	if c.overhead.tokens == 0 {
		c.mu.Lock()
		c.overhead.earn(c.earned)
		c.earned = 0
		c.mu.Unlock()
	}
	return c.overhead.take()
}
