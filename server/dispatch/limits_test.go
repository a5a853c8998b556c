package dispatch

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func TestBoardLeavesJobsAtTheirLimits(t *testing.T) {
	limited := job.Job{ID: 1, Project: "a", Policy: job.Policy{MaxRunning: 2}}
	list := jobs(limited, job.Job{ID: 2, Project: "a"}, job.Job{ID: 3, Project: "b"}, job.Job{ID: 4})
	kinds := map[string]bool{"k": true}
	asked := func(b *board) (ids []int64) {
		for _, turn := range b.deal(kinds, 8) {
			ids = append(ids, turn.JobID)
		}
		slices.Sort(ids)
		return ids
	}
	for _, test := range []struct {
		name         string
		projectLimit int
		free         int64
		want         []int64
	}{
		{"nothing ended", 0, -1, []int64{3, 4}},
		{"one of its own ended", 0, 1, []int64{1, 3, 4}},
		{"one of its project ended, without a limit of projects", 0, 2, []int64{2, 3, 4}},
		{"one of its project ended", 5, 2, []int64{1, 2, 3, 4}},
		{"one of another project ended", 5, 3, []int64{3, 4}},
		{"one of a job that is not claimed from ended", 5, 99, []int64{1, 2, 3, 4}},
	} {
		b := newBoard(test.projectLimit)
		b.refresh(list)
		turns := b.deal(kinds, 8)
		for _, turn := range turns {
			want := store.Turn{JobID: turn.JobID, Most: turn.Most}
			if turn.JobID == 1 {
				want.JobLimit = 2
			}
			if j := b.jobs[turn.JobID].job; test.projectLimit > 0 && j.Project != "" {
				want.Project, want.ProjectLimit = j.Project, test.projectLimit
			}
			if diff := cmp.Diff(want, turn); diff != "" {
				t.Errorf("%s: turn (-want +got):\n%s", test.name, diff)
			}
		}
		took := map[int64]store.Took{}
		for _, turn := range turns {
			took[turn.JobID] = store.Took{Batches: turn.Most}
			if turn.JobID <= 2 {
				took[turn.JobID] = store.Took{Held: turn.Most, Full: true}
			}
		}
		b.dried(turns, took)
		if test.free >= 0 {
			b.free(test.free)
		}
		if diff := cmp.Diff(test.want, asked(b)); diff != "" {
			t.Errorf("%s: asked (-want +got):\n%s", test.name, diff)
		}
		b.rewind(true, time.Hour)
		if diff := cmp.Diff([]int64{1, 2, 3, 4}, asked(b)); diff != "" {
			t.Errorf("%s: asked at a poll (-want +got):\n%s", test.name, diff)
		}
	}
}

// What a job does not take of a limit that it shares is asked for at once from the others.
func TestBoardAsksAgainForWhatALimitLeaves(t *testing.T) {
	b := newBoard(4)
	b.refresh(jobs(job.Job{ID: 1, Project: "a"}, job.Job{ID: 2, Project: "a"}))
	kinds := map[string]bool{"k": true}
	b.dried(b.deal(kinds, 8), map[int64]store.Took{1: {Batches: 1}, 2: {Held: 4}})
	want := []store.Turn{{JobID: 2, Most: 7, Project: "a", ProjectLimit: 4}}
	if diff := cmp.Diff(want, b.deal(kinds, 7)); diff != "" {
		t.Errorf("turns (-want +got):\n%s", diff)
	}
}
