// Package storetest is the specification of a coordinator's store, as a suite that every engine passes.
//
// An engine's test calls Test and BenchmarkClaimSettle with a function that opens an empty, migrated store for one test
// and closes it when that test ends, and Model with one that opens as many stores on one database as there are
// coordinators. Time is the store's own: where a case needs a lease to run out or a
// backoff to pass, it asks the store's clock again and again within a bound, so that the suite runs against a clock it
// cannot set.
package storetest

import (
	"testing"

	"github.com/tallyman-dev/tallyman/server/store"
)

// Open opens an empty store for one test, and has it closed when the test ends.
type Open func(tb testing.TB) store.Store

// scenario is one named guarantee.
type scenario struct {
	name string
	run  func(f *fixture)
}

// Test runs the suite: every guarantee in a subtest of its own, in parallel, on a store of its own.
func Test(t *testing.T, open Open) {
	t.Helper()
	for _, group := range []struct {
		name      string
		scenarios []scenario
	}{
		{"uploads", uploads},
		{"ingest", ingest},
		{"claims", claims},
		{"running", running},
		{"beats", beats},
		{"settles", settles},
		{"successions", successions},
		{"decisions", decisions},
		{"reaper", reaps},
		{"sessions", sessions},
		{"stopping", stopping},
		{"pausing", pausing},
		{"retries", retries},
		{"takings", takings},
		{"isolation", isolation},
		{"verdicts", verdicts},
		{"limits", limits},
		{"items", items},
		{"results", results},
		{"folds", folds},
		{"listings", listings},
		{"states", states},
		{"statistics", statistics},
		{"figures", figures},
		{"deliveries", deliveries},
		{"deletion", deletion},
		{"retention", retention},
		{"workers", workers},
		{"tokens", tokens},
		{"text", texts},
		{"room", room},
		{"concurrency", concurrency},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, s := range group.scenarios {
				t.Run(s.name, func(t *testing.T) {
					t.Parallel()
					s.run(&fixture{tb: t, Store: open(t), ctx: t.Context()})
				})
			}
		})
	}
}
