package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/tallyman-dev/tallyman/server/store"
)

// away makes parts of a store unreachable.
type away struct {
	store.Store
	ingest func() error
	beat   func() error
	claim  func() error
	after  func() // a claim
}

func call(f func() error) error {
	if f == nil {
		return nil
	}
	return f()
}

func (a *away) CommitIngest(ctx context.Context, g store.IngestGroup) error {
	if err := call(a.ingest); err != nil {
		return err
	}
	return a.Store.CommitIngest(ctx, g)
}

func (a *away) Beat(ctx context.Context, lease time.Duration, beats []store.Beat) ([]store.BeatAnswer, []int, error) {
	if err := call(a.beat); err != nil {
		return nil, nil, err
	}
	return a.Store.Beat(ctx, lease, beats)
}

func (a *away) Claim(
	ctx context.Context, lease time.Duration, requests []store.ClaimRequest, turns []store.Turn,
) (store.Claimed, error) {
	if err := call(a.claim); err != nil {
		return store.Claimed{}, err
	}
	claimed, err := a.Store.Claim(ctx, lease, requests, turns)
	if a.after != nil {
		a.after()
	}
	return claimed, err
}

func (a *away) SettleAndClaim(
	ctx context.Context, settlements []store.Settlement, lease time.Duration, requests []store.ClaimRequest, turns []store.Turn,
) (store.Settled, store.Claimed, error) {
	if err := call(a.claim); err != nil {
		return store.Settled{}, store.Claimed{}, err
	}
	settled, claimed, err := a.Store.SettleAndClaim(ctx, settlements, lease, requests, turns)
	if a.after != nil {
		a.after()
	}
	return settled, claimed, err
}

func TestUploadMeetsTheStoresTroubles(t *testing.T) {
	inMemory(t, func(t *scene) {
		var trouble error
		c := start(t, Config{Database: t.database}, func(s store.Store) store.Store {
			return &away{Store: s, ingest: func() error { return trouble }}
		})
		for _, test := range []struct {
			err    error
			code   codes.Code
			reason string
		}{
			{store.ErrUnavailable, codes.Unavailable, "DATABASE_UNAVAILABLE"},
			{store.ErrFull, codes.Unavailable, "DATABASE_FULL"},
			{errors.New("relation \"batches\" does not exist (SQLSTATE 42P01)"), codes.Internal, "INTERNAL"},
		} {
			trouble = fmt.Errorf("commit ingest: %w", test.err)
			u := c.open(c.ctx, header("troubled"))
			u.chunk(lines(1, 9))
			c.must(u.Send(finish(u.at)))
			err := u.failure()
			c.wantError(test.err.Error(), err, test.code, test.reason)
			if strings.Contains(err.Error(), "SQLSTATE") {
				t.Errorf("the driver's text went out: %v", err)
			}
		}
		if n := len(c.log.lines(t, "request failed")); n != 1 {
			t.Errorf("%d log lines of the unexpected one, want 1", n)
		}
		trouble = nil
		if last := c.submit(header("troubled"), lines(1, 9)); last.GetItems() != 9 {
			t.Errorf("when it is back: %v", last)
		}
	})
}
