package storetest

import (
	"fmt"

	"github.com/tallyman-dev/tallyman/server/store"
)

func (c *caller) register() {
	id, list, err := c.RegisterSession(c.ctx, session(fmt.Sprint("worker-", c.random.IntN(12))))
	if !c.fine("register", err) {
		return
	}
	c.overAll(list, "registering anew")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions = append(c.sessions, id)
}

func (c *caller) deregister() {
	s, _ := lately(c, &c.sessions)
	list, err := c.EndSession(c.ctx, s, "bye")
	c.fine("deregister", err)
	c.overAll(list, "deregistering")
}

func (c *caller) openStream() {
	s, _ := lately(c, &c.sessions)
	epoch, err := c.OpenStream(c.ctx, s)
	if c.fine("open stream", err, store.ErrSessionEnded) {
		c.beats[s] = epoch
	}
}

func (c *caller) breakStream() {
	for s, epoch := range c.beats {
		c.fine("break stream", c.BreakStream(c.ctx, s, epoch, c.lease()))
		delete(c.beats, s)
		return
	}
}

func (c *caller) excuse() {
	s, _ := lately(c, &c.sessions)
	c.fine("excuse stream", c.ExcuseStreams(c.ctx, []store.Stream{{SessionID: s, Epoch: 1}}))
}

func (c *caller) touch() {
	s, _ := lately(c, &c.sessions)
	_, err := c.TouchSessions(c.ctx, []int64{s})
	c.fine("touch sessions", err)
}

func (c *caller) silence() {
	list, err := c.EndSilentSessions(c.ctx, long)
	c.fine("end silent sessions", err)
	c.overAll(list, "silence")
}
