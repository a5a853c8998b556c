// Package token knows callers by tokens: 256 random bits that are shown once and of which only a hash is kept. A slow hash
// is for what people choose; what cannot be guessed needs none.
package token

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/store"
)

// prefix tells tokens of this program from other texts, to people and to what looks for secrets in places where they
// should not be.
const prefix = "tallyman_"

// New returns a new token.
func New() string {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	return prefix + base64.RawURLEncoding.EncodeToString(secret[:])
}

// Hash returns what is kept of a token.
func Hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// Store is what a keeper needs of the coordinator's store.
type Store interface {
	ValidTokens(ctx context.Context, hashes [][]byte) ([]store.Token, error)
}

const (
	// refresh is the time between looks at the tokens in use: so soon a revoked one is of no use.
	refresh = 2 * time.Second
	// fresh is for how long what was read may be answered from memory. It is longer than refresh, so that calls need not wait
	// for the database, and bounds what a database that is away hides.
	fresh = 10 * time.Second
	// unknownKept bounds the memory of hashes that are no token's.
	unknownKept = 10_000
)

// Keeper knows whose tokens are. It is safe for concurrent use.
type Keeper struct {
	store  Store
	logger *slog.Logger
	flight singleflight.Group

	mu      sync.Mutex
	known   map[string]*entry    // by hash; as many as there are tokens at most
	unknown map[string]time.Time // hashes that were no valid token's, and when
}

type entry struct {
	who     access.Identity
	checked time.Time
	used    time.Time
	end     context.CancelFunc // of what is done with it
}

// NewKeeper returns a keeper that knows nothing yet.
func NewKeeper(s Store, logger *slog.Logger) *Keeper {
	return &Keeper{store: s, logger: logger, known: map[string]*entry{}, unknown: map[string]time.Time{}}
}

// Identify returns who holds a token. known is false for a token that is unknown, expired or revoked. It asks the database
// only for tokens that it has not heard of lately.
func (k *Keeper) Identify(ctx context.Context, secret string) (who access.Identity, known bool, err error) {
	hash := string(Hash(secret))
	if who, known, ok := k.remembered(hash); ok {
		return who, known, nil
	}
	// Whoever asks first asks for all, and is not the one whose patience counts.
	_, err, _ = k.flight.Do(hash, func() (any, error) {
		return nil, k.look(context.WithoutCancel(ctx), [][]byte{[]byte(hash)})
	})
	if err != nil {
		return access.Identity{}, false, err
	}
	who, known, _ = k.remembered(hash)
	return who, known, nil
}

func (k *Keeper) remembered(hash string) (who access.Identity, known, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if e := k.known[hash]; e != nil {
		e.used = now
		return e.who, true, now.Sub(e.checked) < fresh
	}
	at, seen := k.unknown[hash]
	return access.Identity{}, false, seen && now.Sub(at) < refresh
}

// look reads what the database knows of hashes.
func (k *Keeper) look(ctx context.Context, hashes [][]byte) error {
	now := time.Now()
	valid, err := k.store.ValidTokens(ctx, hashes)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	found := make(map[string]bool, len(valid))
	for _, t := range valid {
		hash := string(t.Hash)
		found[hash] = true
		delete(k.unknown, hash)
		if e := k.known[hash]; e != nil {
			e.checked = now
			continue
		}
		while, end := context.WithCancel(context.Background())
		key := "token/" + t.Name
		k.known[hash] = &entry{
			who:     access.Identity{Key: key, Name: key, Role: access.Role(t.Role), Projects: t.Projects, While: while},
			checked: now, used: now, end: end,
		}
	}
	for _, h := range hashes {
		hash := string(h)
		if found[hash] {
			continue
		}
		if e := k.known[hash]; e != nil {
			k.logger.InfoContext(ctx, "token is good no more", "caller", e.who.Name)
			e.end()
			delete(k.known, hash)
		}
		if len(k.unknown) >= unknownKept {
			clear(k.unknown)
		}
		k.unknown[hash] = now
	}
	return nil
}

// Run looks after the tokens in use until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			// What cannot be read now is asked for by the next call, or read by the next round.
			_ = k.runOnce(ctx)
		}
	}
}

func (k *Keeper) runOnce(ctx context.Context) error {
	k.mu.Lock()
	hashes := make([][]byte, 0, len(k.known))
	for hash := range k.known {
		hashes = append(hashes, []byte(hash))
	}
	k.mu.Unlock()
	if len(hashes) == 0 {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, fresh)
	defer cancel()
	return k.look(bounded, hashes)
}
