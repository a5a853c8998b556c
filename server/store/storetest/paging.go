package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// pagedJobs is how many jobs are paged through. Of seven in a row each has another state.
const pagedJobs = 3500

var pagedStates = []job.State{
	job.Running, job.Succeeded, job.Paused, job.CompletedWithErrors, job.Failed, job.Cancelling, job.Cancelled,
}

// Paging tests that whoever pages through the jobs of a large installation sees every one once, also while jobs end. The
// moment is any, as the SQL of the engine writes it.
func Paging(t *testing.T, open OpenWithQuery, moment string) {
	t.Helper()
	s, query := open(t)
	f := &fixture{tb: t, Store: s, ctx: t.Context()}
	all := insertJobs(t, query, moment)
	openOnes := []job.State{job.Running, job.Paused, job.Cancelling}
	filters := map[string]store.JobFilter{}
	for _, states := range [][]job.State{
		nil, openOnes, {job.Running}, {job.Running, job.Running}, {job.Failed}, {job.Running, job.Succeeded}, {job.Succeeded, job.Failed},
	} {
		for _, project := range []string{"", "project-1", "nobody's"} {
			for _, kind := range []string{"", "kind-2"} {
				filters[fmt.Sprintf("%v %q %q", states, project, kind)] = store.JobFilter{Project: project, Kind: kind, States: states}
			}
		}
	}
	for name, filter := range filters {
		f.equal(name, f.pages(filter, pagedJobs/7, func(int) {}), listed(all, filter))
	}
	// Open jobs end between the pages: some that were seen already, some that come later, some that come next.
	for _, filter := range []store.JobFilter{{Project: "project-1", States: openOnes}, {States: openOnes}, {}} {
		before := listed(all, filter)
		seen := f.pages(filter, 70, func(page int) {
			var ending []string
			for i := range all {
				if !all[i].State.Ended() && i%31 == page%31 {
					all[i].State = job.Succeeded
					ending = append(ending, strconv.FormatInt(all[i].ID, 10))
				}
			}
			if len(ending) > 0 {
				query(t, "UPDATE jobs SET state = 'succeeded', ended_at = "+moment+" WHERE id IN ("+strings.Join(ending, ", ")+")")
			}
		})
		after := listed(all, filter)
		if id, ok := without(after, seen); !ok {
			f.Errorf("%v: job %d was there all the time and is on no page", filter, id)
		}
		if id, ok := without(seen, before); !ok {
			f.Errorf("%v: job %d is on a page and never was one of these", filter, id)
		}
		if len(filter.States) > 0 && (len(seen) == len(after) || len(seen) == len(before)) {
			f.Errorf("%v: of %d jobs %d were seen and %d have not ended: none ended before, or none after", filter, len(before), len(seen), len(after))
		}
	}
}

// without returns one of the ids that is not among all, and false if there is one. Both are in descending order.
func without(ids, all []int64) (int64, bool) {
	for _, id := range ids {
		if _, found := slices.BinarySearchFunc(all, id, func(a, b int64) int { return cmp.Compare(b, a) }); !found {
			return id, false
		}
	}
	return 0, true
}

// insertJobs inserts jobs and returns what lists show of them, newest first.
func insertJobs(t *testing.T, query Query, moment string) []job.Job {
	t.Helper()
	var rows []string
	all := make([]job.Job, pagedJobs)
	for i := range all {
		j := job.Job{
			ID: int64(i + 1), State: pagedStates[i%len(pagedStates)], Project: fmt.Sprint("project-", i%3), Kind: fmt.Sprint("kind-", i%5),
		}
		ended, stop := "NULL", ""
		if j.State.Ended() {
			ended = moment
		}
		if j.State == job.Cancelling {
			stop = "cancelled"
		}
		rows = append(rows, fmt.Sprintf("('%d', '%s', '%s', 'replace', '{}', '{}', '{}', 0, '', 0, '%s', '%s', %s, %s, %s)",
			j.ID, j.Project, j.Kind, j.State, stop, moment, ended, moment))
		all[len(all)-1-i] = j
	}
	query(t, `INSERT INTO jobs (upload_id, project, kind, mode, parameters, labels, policy, priority, file_name, size, state,
		stop_as, submitted_at, ended_at, updated_at) VALUES `+strings.Join(rows, ", "))
	return all
}

// listed returns the numbers of the jobs that a filter lets through.
func listed(all []job.Job, f store.JobFilter) []int64 {
	var ids []int64
	for _, j := range all {
		if (f.Project == "" || j.Project == f.Project) && (f.Kind == "" || j.Kind == f.Kind) &&
			(len(f.States) == 0 || slices.Contains(f.States, j.State)) {
			ids = append(ids, j.ID)
		}
	}
	return ids
}

// pages pages through jobs as whoever lists them does, until a page is not full, and checks that each lies below all
// before it. Between is called after each page.
func (f *fixture) pages(filter store.JobFilter, size int, between func(page int)) []int64 {
	f.Helper()
	var seen []int64
	for page := 0; ; page++ {
		after := int64(0)
		if len(seen) > 0 {
			after = seen[len(seen)-1]
		}
		list, err := f.ListJobs(f.ctx, filter, store.Page{Size: size, After: after})
		f.must(err)
		for _, j := range list {
			if after > 0 && j.ID >= after {
				f.Fatalf("%v: job %d comes after job %d", filter, j.ID, after)
			}
			after = j.ID
			seen = append(seen, j.ID)
		}
		if len(list) < size {
			return seen
		}
		between(page)
	}
}
