package storetest

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

func testFence(f *fixture) {
	t := f.T
	other := f.newWriter(f.again())
	entries := numbered(t, 3)
	j := job(1, "fence")

	first := newLease()
	_, err := collect(t.Context(), f.writer, first, j, entries[:1])
	f.wantError(err, store.ErrFenced) // it has not begun
	if _, err := putBy(t.Context(), f.writer, first, j, entries[:1]); err != nil {
		t.Fatal(err)
	}
	if err := f.writer.Begin(t.Context(), first); err != nil {
		t.Errorf("beginning once more: %v", err)
	}
	second := first
	second.Attempt = 2
	_, err = collect(t.Context(), f.writer, second, j, entries)
	f.wantError(err, store.ErrFenced) // it has not begun either
	if err := other.Begin(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	f.wantError(f.writer.Begin(t.Context(), first), store.ErrFenced)
	reported := false
	err = f.writer.Store(t.Context(), first, j, entries, func([]store.Result) { reported = true })
	f.wantError(err, store.ErrFenced)
	if reported {
		t.Error("an attempt that has lost its lease reports results")
	}
	if n := len(f.export("fence")); n != 1 {
		t.Errorf("%d documents are there, want 1", n)
	}
	results, err := collect(t.Context(), other, second, j, entries)
	if err != nil {
		t.Fatal(err)
	}
	f.wantOutcomes(results, annotation.Stored, annotation.Stored, annotation.Stored)
	// Other batches are not concerned.
	f.put(j, entries)
}

func testFenceOfSplitBatch(f *fixture) {
	t := f.T
	entries := numbered(t, 3)
	j := job(1, "split")
	parent, unstarted := newLease(), newLease()
	if err := f.writer.Begin(t.Context(), parent); err != nil {
		t.Fatal(err)
	}
	child := newLease()
	child.Ancestors = []int64{unstarted.Batch, parent.Batch, parent.Batch}
	for range 2 {
		if err := f.writer.Begin(t.Context(), child); err != nil {
			t.Fatal(err)
		}
	}
	_, err := collect(t.Context(), f.writer, parent, j, entries)
	f.wantError(err, store.ErrFenced)
	parent.Attempt = 9
	f.wantError(f.writer.Begin(t.Context(), parent), store.ErrFenced)
	f.wantError(f.writer.Begin(t.Context(), unstarted), store.ErrFenced)
	f.wantExport("split", "")
	if _, err := collect(t.Context(), f.writer, child, j, entries); err != nil {
		t.Error(err)
	}
}

// testRacingAttempts lets attempts of one batch begin and store at once: the last one stores all, and nothing is there
// twice.
func testRacingAttempts(f *fixture) {
	t := f.T
	entries := numbered(t, 400)
	lease := newLease()
	const attempts = 5
	writers := []store.Writer{f.writer, f.newWriter(f.again())}
	var group errgroup.Group
	var mu sync.Mutex
	last := int32(0)
	for attempt := int32(1); attempt <= attempts; attempt++ {
		lease := lease
		lease.Attempt = attempt
		group.Go(func() error {
			_, err := putBy(t.Context(), writers[attempt%2], lease, job(1, "race"), entries)
			if errors.Is(err, store.ErrFenced) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			last = max(last, attempt)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if last != attempts {
		t.Errorf("attempt %d is the last to end, want %d", last, attempts)
	}
	counts, err := f.store.Count(t.Context(), "race")
	if err != nil || counts.Documents != 400 || counts.Denotations != 400 {
		t.Errorf("%v, %v", counts, err)
	}
}

func testDeadline(f *fixture) {
	t := f.T
	entries := numbered(t, 2)
	j := job(1, "deadline")
	lease := newLease()
	if err := f.writer.Begin(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	past := func() time.Time { return time.Now().Add(-time.Millisecond) }
	late := lease
	late.Deadline = past
	_, err := collect(t.Context(), f.writer, late, j, entries)
	f.wantError(err, store.ErrFenced)
	f.wantError(f.writer.Begin(t.Context(), late), store.ErrFenced)

	// The lease runs out after all was written and before the commit.
	var calls atomic.Int32
	late.Deadline = func() time.Time {
		if calls.Add(1) == 1 {
			return lasting()
		}
		return past()
	}
	_, err = collect(t.Context(), f.writer, late, j, entries)
	f.wantError(err, store.ErrFenced)
	if n := calls.Load(); n < 2 {
		t.Errorf("the deadline was looked at %d times", n)
	}
	f.wantExport("deadline", "")

	// It is renewed while the call is under way.
	calls.Store(0)
	late.Deadline = func() time.Time { return time.Now().Add(time.Duration(calls.Add(1)) * time.Minute) }
	if _, err := collect(t.Context(), f.writer, late, j, entries); err != nil {
		t.Error(err)
	}
}
