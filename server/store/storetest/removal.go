package storetest

import (
	"slices"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// kept are the tables that hold nothing of a job, and what others are to be told of it, which is theirs.
var kept = []string{"cluster", "deliveries", "sessions", "tallyman_goose_version", "tokens"}

// Removal tests that nothing is left of a job that was deleted, in any table. tables is the query for their names.
func Removal(t *testing.T, open OpenWithQuery, tables string) {
	t.Helper()
	s, query := open(t)
	f := &fixture{tb: t, Store: s, ctx: t.Context()}
	// full returns the tables that have rows, of those that should have none in the end.
	full := func() (names []string) {
		t.Helper()
		for _, row := range query(t, tables) {
			if name := row[0]; !slices.Contains(kept, name) && query(t, "SELECT count(*) FROM "+name)[0][0] != "0" {
				names = append(names, name)
			}
		}
		return names
	}
	var all []string
	for _, row := range query(t, tables) {
		if !slices.Contains(kept, row[0]) {
			all = append(all, row[0])
		}
	}
	if len(all) < 10 {
		f.Fatalf("the tables are %v", all)
	}

	up := f.open("a")
	g := cut(up, 2, 2, 2, 2, 2)
	g.Finished = true
	g.Rejected = []store.RejectedItems{{FirstItem: 11, Items: 1, Frame: []byte(strings.Repeat("x", 5000))}}
	g.Position.Item++
	for range 7 {
		g.Findings = append(g.Findings, store.Finding{Item: 11, Severity: store.Error, Code: "E"})
	}
	f.commit(up, g)
	for i, grant := range f.claim(f.register("w"), "1", long, 5, up.JobID) {
		end := completed(grant)
		end.Results = valuesAt("result", 0, 1)
		if i%2 == 1 {
			end = ended(grant, job.EndFailed)
		}
		end.Findings = []store.Finding{{Position: 0, Item: grant.FirstItem, Severity: store.Warning, Code: "W"}}
		f.settle(end)
	}
	f.fold(up.JobID)
	// A retry that finds nothing of its own to move leaves deltas behind.
	f.retry(up.JobID, store.Retry{RequestID: "1"})
	f.steps(up.JobID)
	f.stop(up.JobID)
	f.sweep(up.JobID)
	f.equal("tables with rows before", full(), all)
	f.fold(up.JobID)
	f.must(f.DeleteJob(f.ctx, up.JobID))
	f.wait("the job to be gone", func() bool {
		more, err := f.DeleteStep(f.ctx, 3)
		f.must(err)
		return !more
	})
	f.equal("tables with rows after", full(), []string(nil))
}
