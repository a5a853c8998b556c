package storetest

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tallyman-dev/tallyman/server/store"
)

// BenchmarkClaimSettle measures the life of a batch, from claim to completion, in groups of several sizes and by one
// or several callers at once. An operation is one batch; folds are not part of it.
func BenchmarkClaimSettle(b *testing.B, open Open) {
	for _, callers := range []int{1, 4} {
		for _, group := range []int{1, 16, 128} {
			b.Run(fmt.Sprintf("callers=%d/group=%d", callers, group), func(b *testing.B) {
				f := &fixture{tb: b, Store: open(b), ctx: b.Context()}
				id := f.submitMany(b.N)
				sessions := make([]int64, callers)
				for i := range sessions {
					sessions[i] = f.register(fmt.Sprint("w", i))
				}
				b.ResetTimer()
				var settled atomic.Int64
				var wg sync.WaitGroup
				for _, s := range sessions {
					wg.Go(func() { settled.Add(f.drain(b.Context(), id, s, group)) })
				}
				wg.Wait()
				b.StopTimer()
				if n := settled.Load(); n != int64(b.N) {
					b.Fatalf("%d of %d batches were completed", n, b.N)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "batches/s")
			})
		}
	}
}

// submitMany uploads a job of n batches of one item, in groups.
func (f *fixture) submitMany(n int) int64 {
	f.Helper()
	up := f.open("many")
	for n > 0 {
		items := make([]int32, min(n, 5000))
		for i := range items {
			items[i] = 1
		}
		n -= len(items)
		g := cut(up, items...)
		g.Finished = n == 0
		f.must(f.CommitIngest(f.ctx, g))
		up.Position = g.Position
	}
	return up.JobID
}

// drain claims and completes groups until a job gives nothing more, and returns the number of batches.
func (f *fixture) drain(ctx context.Context, jobID, session int64, group int) int64 {
	var total int64
	turn := store.Turn{JobID: jobID, Most: group}
	for round := 0; ; round++ {
		got, err := f.Claim(ctx, long, []store.ClaimRequest{request(session, strconv.Itoa(round), group)}, []store.Turn{turn})
		if err != nil {
			f.Errorf("claim: %v", err)
			return total
		}
		grants := got.Grants[0]
		if len(grants) == 0 {
			return total
		}
		turn.Floor = got.Took[jobID].Last + 1
		settlements := make([]store.Settlement, len(grants))
		for i, g := range grants {
			settlements[i] = completed(g)
		}
		answers, _, err := f.Settle(ctx, settlements)
		if err != nil {
			f.Errorf("settle: %v", err)
			return total
		}
		for _, a := range answers {
			if a.Lost || a.Err != nil {
				f.Errorf("settlement was refused: %+v", a)
			}
		}
		total += int64(len(grants))
	}
}
