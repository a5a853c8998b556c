package api

import "sync"

// served is what of a session never changes.
type served struct {
	kinds []string // that it serves
	owner string   // who registered it
}

// kindCache remembers the kinds that sessions serve, and whose they are, so that a claim need not read them. Safe for
// concurrent use.
type kindCache struct {
	mu    sync.Mutex
	kinds map[int64]served
}

// kindsKept bounds the cache; when it is full it starts anew.
const kindsKept = 100_000

func newKindCache() *kindCache { return &kindCache{kinds: map[int64]served{}} }

func (c *kindCache) get(session int64) (served, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of, ok := c.kinds[session]
	return of, ok
}

func (c *kindCache) put(session int64, of served) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.kinds) >= kindsKept {
		clear(c.kinds)
	}
	c.kinds[session] = of
}

func (c *kindCache) forget(session int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.kinds, session)
}
