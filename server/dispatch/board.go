package dispatch

import (
	"cmp"
	"slices"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// board knows the jobs that may be claimed from, and whose turn it is: jobs of the highest priority first, among those
// the projects in turns, among those of one project the jobs in turns. It belongs to the claim loop's goroutine.
type board struct {
	jobs     map[int64]*seat
	projects map[string]*project
}

type project struct {
	served uint64 // batches given, on a clock that starts where the others stand
}

type seat struct {
	job    job.Job
	served uint64
	floor  int32 // no fresh batch lies before
	dry    bool  // the last claim found fewer than it asked for
}

func newBoard() *board {
	return &board{jobs: map[int64]*seat{}, projects: map[string]*project{}}
}

// refresh takes over which jobs are running. What is known of those that stay is kept.
func (b *board) refresh(running []job.Job) {
	next := make(map[int64]*seat, len(running))
	projects := make(map[string]*project, len(b.projects))
	for _, j := range running {
		s := b.jobs[j.ID]
		if s == nil {
			s = &seat{served: b.leastServedJob(j.Project)}
		}
		s.job = j
		next[j.ID] = s
		p := b.projects[j.Project]
		if p == nil {
			if p = projects[j.Project]; p == nil {
				p = &project{served: b.leastServedProject()}
			}
		}
		projects[j.Project] = p
	}
	b.jobs, b.projects = next, projects
}

// leastServedProject is where a newcomer starts: with the least served, so that it neither waits nor catches up.
func (b *board) leastServedProject() uint64 {
	least, found := uint64(0), false
	for _, p := range b.projects {
		if !found || p.served < least {
			least, found = p.served, true
		}
	}
	return least
}

func (b *board) leastServedJob(project string) uint64 {
	least, found := uint64(0), false
	for _, s := range b.jobs {
		if s.job.Project == project && (!found || s.served < least) {
			least, found = s.served, true
		}
	}
	return least
}

// stir says that a job, or with 0 every one, may have fresh batches again.
func (b *board) stir(jobID int64) {
	if jobID != 0 {
		if s := b.jobs[jobID]; s != nil {
			s.dry = false
		}
		return
	}
	for _, s := range b.jobs {
		s.dry = false
	}
}

// rewind makes the next claims look at jobs from their start: batches below the floor may have been locked by a
// claim that was rolled back.
func (b *board) rewind() {
	for _, s := range b.jobs {
		if s.dry {
			s.dry, s.floor = false, 0
		}
	}
}

// deal gives want batches to the jobs of the kinds, in turns. Every such job gets a turn, if only for its returned
// batches.
func (b *board) deal(kinds map[string]bool, want int) []store.Turn {
	var seats []*seat
	for _, s := range b.jobs {
		if kinds[s.job.Kind] {
			seats = append(seats, s)
		}
	}
	slices.SortFunc(seats, func(a, c *seat) int {
		return cmp.Or(
			cmp.Compare(c.job.Priority, a.job.Priority),
			cmp.Compare(b.projects[a.job.Project].served, b.projects[c.job.Project].served),
			cmp.Compare(a.job.Project, c.job.Project),
			cmp.Compare(a.served, c.served),
			cmp.Compare(a.job.ID, c.job.ID))
	})
	turns := make([]store.Turn, len(seats))
	for i, s := range seats {
		turns[i] = store.Turn{JobID: s.job.ID, Floor: s.floor}
	}
	for first := 0; first < len(seats) && want > 0; {
		last := first
		for last < len(seats) && seats[last].job.Priority == seats[first].job.Priority {
			last++
		}
		want = dealClass(seats[first:last], turns[first:last], want)
		// What a class can give is not known before it is asked: the lower ones are asked when it has run dry.
		first = last
	}
	return turns
}

// dealClass deals want batches among jobs of one priority, a batch a turn, project by project and job by job, and
// returns what could not be dealt: all of it when every job is dry, else nothing.
func dealClass(seats []*seat, turns []store.Turn, want int) int {
	type hand struct{ turns []int }
	var hands []*hand
	for i, s := range seats {
		if s.dry {
			continue
		}
		if i == 0 || len(hands) == 0 || seats[hands[len(hands)-1].turns[0]].job.Project != s.job.Project {
			hands = append(hands, &hand{})
		}
		h := hands[len(hands)-1]
		h.turns = append(h.turns, i)
	}
	if len(hands) == 0 {
		return want
	}
	for k := 0; want > 0; k++ {
		h := hands[k%len(hands)]
		turns[h.turns[(k/len(hands))%len(h.turns)]].Fresh++
		want--
	}
	return 0
}

// took notes what a claim gave.
func (b *board) took(turns []store.Turn, fresh map[int64]store.Took) {
	for _, t := range turns {
		s := b.jobs[t.JobID]
		if s == nil || t.Fresh == 0 {
			continue
		}
		got := fresh[t.JobID]
		if got.Batches > 0 {
			s.floor = max(s.floor, got.Last+1)
			s.served += uint64(got.Batches)
			if p := b.projects[s.job.Project]; p != nil {
				p.served += uint64(got.Batches)
			}
		}
	}
}

// dried notes the jobs that gave fewer than they were asked for while callers still wait.
func (b *board) dried(turns []store.Turn, fresh map[int64]store.Took) (more bool) {
	for _, t := range turns {
		s := b.jobs[t.JobID]
		if s == nil {
			continue
		}
		if t.Fresh > 0 && fresh[t.JobID].Batches < t.Fresh {
			s.dry = true
		}
		more = more || !s.dry
	}
	return more
}
