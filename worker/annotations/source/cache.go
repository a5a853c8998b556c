package source

import (
	"container/list"
	"time"
)

const (
	// lackTime is for how long it is remembered that there is no text: a source may get it at any time.
	lackTime = time.Minute

	entryBytes = 256 // what an entry takes besides its strings, about
)

// cache remembers what was answered last, within a number of bytes. The source's lock guards it.
type cache struct {
	limit   int64
	bytes   int64
	entries map[string]*list.Element
	order   *list.List // of remembered; what was asked for last is in front
}

type remembered struct {
	id    string
	doc   Document
	until time.Time // zero: for ever
}

func (r *remembered) size() int64 {
	return int64(len(r.id)+len(r.doc.Text)+len(r.doc.Reason)) + entryBytes
}

func newCache(limit int64) cache {
	return cache{limit: limit, entries: make(map[string]*list.Element), order: list.New()}
}

func (c *cache) get(id string) (Document, bool) {
	e := c.entries[id]
	if e == nil {
		return Document{}, false
	}
	r, _ := e.Value.(*remembered)
	if !r.until.IsZero() && !time.Now().Before(r.until) {
		c.remove(e, r)
		return Document{}, false
	}
	c.order.MoveToFront(e)
	return r.doc, true
}

func (c *cache) put(id string, doc Document) {
	if e := c.entries[id]; e != nil {
		r, _ := e.Value.(*remembered)
		c.remove(e, r)
	}
	r := &remembered{id: id, doc: doc}
	if doc.Text == "" {
		r.until = time.Now().Add(lackTime)
	}
	if r.size() > c.limit {
		return
	}
	c.entries[id] = c.order.PushFront(r)
	c.bytes += r.size()
	for c.bytes > c.limit {
		last := c.order.Back()
		r, _ := last.Value.(*remembered)
		c.remove(last, r)
	}
}

func (c *cache) remove(e *list.Element, r *remembered) {
	c.order.Remove(e)
	delete(c.entries, r.id)
	c.bytes -= r.size()
}
