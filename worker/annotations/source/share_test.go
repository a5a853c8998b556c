package source_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/worker/annotations/source"
)

// asked is what a Lookup in a goroutine of its own returns.
type asked struct {
	docs []source.Document
	err  error
}

func goLookup(ctx context.Context, s *source.Source, ids ...string) <-chan asked {
	c := make(chan asked, 1)
	go func() {
		docs, err := s.Lookup(ctx, ids)
		c <- asked{docs, err}
	}()
	return c
}

// Who asks for what is being asked for waits for that answer.
func TestLookupsShareCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{answer: func(_ context.Context, ids []string) reply {
			<-time.After(time.Second)
			return docs(ids...)
		}}
		opened := open(t, s, source.Config{})
		first := goLookup(t.Context(), opened, "1", "2")
		synctest.Wait()
		second := goLookup(t.Context(), opened, "2", "3")
		synctest.Wait()
		third := goLookup(t.Context(), opened, "3", "1")
		for _, want := range [][]string{{"Text of 1.", "Text of 2."}, {"Text of 2.", "Text of 3."}, {"Text of 3.", "Text of 1."}} {
			got := <-first
			first, second = second, third
			if got.err != nil {
				t.Fatal(got.err)
			}
			wantDocuments(t, got.docs, want...)
		}
		if d := cmp.Diff([][]string{{"1", "2"}, {"3"}}, s.called()); d != "" {
			t.Errorf("calls (-want +got)\n%s", d)
		}
	})
}

// Who waits for a Lookup that is told to end asks in its place; who waits for one that fails has failed.
func TestSharedCallsThatEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{answer: func(ctx context.Context, ids []string) reply {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return reply{err: ctx.Err()}
			}
			if slices.Contains(ids, "bad") {
				return reply{status: 401}
			}
			return docs(ids...)
		}}
		opened := open(t, s, source.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		first := goLookup(ctx, opened, "1", "2")
		synctest.Wait()
		second := goLookup(t.Context(), opened, "2", "3")
		third := goLookup(ctx, opened, "2", "4")
		synctest.Wait()
		cancel()
		if got := <-first; !errors.Is(got.err, context.Canceled) {
			t.Errorf("the first Lookup returned %v", got.err)
		}
		if got := <-third; !errors.Is(got.err, context.Canceled) {
			t.Errorf("the third Lookup returned %v", got.err)
		}
		got := <-second
		if got.err != nil {
			t.Fatal(got.err)
		}
		wantDocuments(t, got.docs, "Text of 2.", "Text of 3.")

		first = goLookup(t.Context(), opened, "bad")
		synctest.Wait()
		second = goLookup(t.Context(), opened, "bad", "5")
		wantUnavailable(t, (<-first).err)
		wantUnavailable(t, (<-second).err)
	})
}

// Texts are remembered, and for a short time that there is none.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		has := false
		s := &service{answer: func(_ context.Context, ids []string) reply {
			if !has {
				ids = slices.DeleteFunc(ids, func(id string) bool { return id == "2" })
			}
			return docs(ids...)
		}}
		opened := open(t, s, source.Config{})
		wantDocuments(t, lookup(t, opened, "1", "2"), "Text of 1.", "missing")
		has = true
		<-time.After(59 * time.Second)
		wantDocuments(t, lookup(t, opened, "1", "2", "3"), "Text of 1.", "missing", "Text of 3.")
		<-time.After(time.Second)
		wantDocuments(t, lookup(t, opened, "1", "2"), "Text of 1.", "Text of 2.")
		<-time.After(time.Hour)
		wantDocuments(t, lookup(t, opened, "1", "2", "3"), "Text of 1.", "Text of 2.", "Text of 3.")
		wantCalls(t, s, 3)
	})
}

// What was asked for last is remembered; memory is bounded.
func TestMemoryIsBounded(t *testing.T) {
	s := &service{answer: func(_ context.Context, ids []string) reply {
		return reply{body: strings.ReplaceAll(docs(ids...).body, "Text", strings.Repeat("x", 1000))}
	}}
	opened := open(t, s, source.Config{CacheBytes: 3 * 1400, Batch: 1})
	calls := func(want int, ids ...string) {
		t.Helper()
		before := len(s.called())
		lookup(t, opened, ids...)
		if n := len(s.called()) - before; n != want {
			t.Errorf("%v: %d calls, want %d", ids, n, want)
		}
	}
	calls(3, "1", "2", "3")
	calls(0, "1")
	calls(1, "4") // in the place of 2
	calls(0, "1", "3", "4")
	calls(1, "2")
	calls(1, "1")
	calls(100, numbered(104)[4:]...)
	calls(0, "104")
	calls(1, "1")
}
