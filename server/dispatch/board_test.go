package dispatch

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

func jobs(specs ...job.Job) []job.Job {
	for i := range specs {
		specs[i].Kind = "k"
		specs[i].State = job.Running
	}
	return specs
}

// give lets the board deal n batches one at a time and returns how many each job got.
func give(b *board, n int) map[int64]int {
	got := map[int64]int{}
	for range n {
		took := map[int64]store.Took{}
		turns := b.deal(map[string]bool{"k": true}, 1)
		if len(turns) > 0 {
			got[turns[0].JobID]++
			took[turns[0].JobID] = store.Took{Batches: 1, Fresh: 1, Last: turns[0].Floor}
		}
		b.took(turns, took)
	}
	return got
}

func TestBoardTakesTurns(t *testing.T) {
	tests := []struct {
		name string
		jobs []job.Job
		want map[int64]int
	}{
		{"jobs of one project", jobs(job.Job{ID: 1, Project: "a"}, job.Job{ID: 2, Project: "a"}), map[int64]int{1: 6, 2: 6}},
		{"projects first, then their jobs",
			jobs(job.Job{ID: 1, Project: "a"}, job.Job{ID: 2, Project: "b"}, job.Job{ID: 3, Project: "b"}),
			map[int64]int{1: 6, 2: 3, 3: 3}},
		{"priority before all", jobs(job.Job{ID: 1, Project: "a"}, job.Job{ID: 2, Project: "b", Priority: 1}),
			map[int64]int{2: 12}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBoard(0)
			b.refresh(test.jobs)
			if diff := cmp.Diff(test.want, give(b, 12)); diff != "" {
				t.Errorf("one at a time (-want +got):\n%s", diff)
			}
			b = newBoard(0)
			b.refresh(test.jobs)
			got := map[int64]int{}
			for _, turn := range b.deal(map[string]bool{"k": true}, 12) {
				if left := 12 - sum(got); left > 0 {
					got[turn.JobID] = min(turn.Most, left)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("all at once (-want +got):\n%s", diff)
			}
		})
	}
}

func sum(counts map[int64]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func TestBoardNewcomerNeitherWaitsNorCatchesUp(t *testing.T) {
	b := newBoard(0)
	old := job.Job{ID: 1, Project: "big"}
	b.refresh(jobs(old))
	give(b, 1000)
	b.refresh(jobs(old, job.Job{ID: 2, Project: "small"}))
	if diff := cmp.Diff(map[int64]int{1: 5, 2: 5}, give(b, 10)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A job that had nothing for a while, as of a slow upload, goes on where the others stand.
func TestBoardIdleJobDoesNotCatchUp(t *testing.T) {
	for _, projects := range [][2]string{{"a", "a"}, {"a", "b"}} {
		b := newBoard(0)
		slow, busy := job.Job{ID: 1, Project: projects[0]}, job.Job{ID: 2, Project: projects[1]}
		b.refresh(jobs(slow, busy))
		give(b, 10)
		b.jobs[2].dry = true // so that only the slow one is asked
		b.dried(b.deal(map[string]bool{"k": true}, 3), nil)
		b.stir(2)
		give(b, 1000)
		b.stir(1)
		if got := give(b, 20); got[1] < 10 || got[1] > 11 {
			t.Errorf("projects %v: of 20 batches %v were given, want about half each", projects, got)
		}
	}
}

func TestBoardAsksManyAtOnce(t *testing.T) {
	b := newBoard(0)
	var many []job.Job
	for i := range int64(300) {
		many = append(many, job.Job{ID: i + 1, Project: fmt.Sprint("p", i%7)})
	}
	b.refresh(jobs(many...))
	asked := map[int64]bool{}
	for rounds := 1; ; rounds++ {
		turns := b.deal(map[string]bool{"k": true}, 1)
		if len(turns) == 0 {
			if rounds > 4 {
				t.Errorf("%d rounds to find that nobody has anything", rounds)
			}
			break
		}
		for _, turn := range turns {
			if asked[turn.JobID] {
				t.Errorf("job %d is asked twice", turn.JobID)
			}
			asked[turn.JobID] = true
		}
		b.dried(turns, nil)
	}
	if len(asked) != len(many) {
		t.Errorf("%d of %d jobs were asked", len(asked), len(many))
	}
}

func TestBoardAsksLowerPrioritiesWhenTheHigherAreDry(t *testing.T) {
	b := newBoard(0)
	b.refresh(jobs(job.Job{ID: 1, Project: "a", Priority: 5}, job.Job{ID: 2, Project: "b", Priority: 2},
		job.Job{ID: 3, Project: "b", Priority: 2}, job.Job{ID: 4, Project: "c"}))
	kinds := map[string]bool{"k": true}
	// Behind a single job stands who comes after it; behind several nobody, since they share what there is.
	turns := b.deal(kinds, 4)
	if diff := cmp.Diff([]store.Turn{{JobID: 1, Most: 4}, {JobID: 2, Most: 2}, {JobID: 3, Most: 2}}, turns); diff != "" {
		t.Errorf("turns (-want +got):\n%s", diff)
	}
	b.dried(turns, map[int64]store.Took{2: {Batches: 2}})
	if diff := cmp.Diff([]store.Turn{{JobID: 2, Most: 4}, {JobID: 4, Most: 4}}, b.deal(kinds, 4)); diff != "" {
		t.Errorf("when two are dry (-want +got):\n%s", diff)
	}
	b.stir(1)
	if diff := cmp.Diff(map[int64]int{1: 2}, give(b, 2)); diff != "" {
		t.Errorf("after new batches came (-want +got):\n%s", diff)
	}
}

func TestBoardOffersOnlyKindsServed(t *testing.T) {
	b := newBoard(0)
	b.refresh([]job.Job{{ID: 1, Kind: "other", State: job.Running}})
	if turns := b.deal(map[string]bool{"k": true}, 4); len(turns) != 0 {
		t.Errorf("turns %v", turns)
	}
}
