package api

import "sync"

// kindCache remembers the kinds that sessions serve, so that a claim need not read them. Safe for concurrent use.
type kindCache struct {
	mu    sync.Mutex
	kinds map[int64][]string
}

// kindsKept bounds the cache; when it is full it starts anew.
const kindsKept = 100_000

func newKindCache() *kindCache { return &kindCache{kinds: map[int64][]string{}} }

func (c *kindCache) get(session int64) ([]string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kinds, ok := c.kinds[session]
	return kinds, ok
}

func (c *kindCache) put(session int64, kinds []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.kinds) >= kindsKept {
		clear(c.kinds)
	}
	c.kinds[session] = kinds
}

func (c *kindCache) forget(session int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.kinds, session)
}
