package dispatch

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// board knows the jobs that may be claimed from, and whose turn it is: jobs of the highest priority first, among those
// the projects in turns, among those of one project the jobs in turns. Batches that came back have no other turn than
// fresh ones. It belongs to the claim loop's goroutine.
type board struct {
	jobs     map[int64]*seat
	projects map[string]*project
	rewound  time.Time    // monotonic
	waits    atomic.Int32 // seats that are choosy; read by others, too
	// projectLimit is how many batches of one project may run at the same time; 0 for no limit.
	projectLimit int
}

type project struct {
	served uint64 // batches given, on a clock that starts where the others stand
}

type seat struct {
	job    job.Job
	served uint64
	floor  int32 // no fresh batch lies before
	dry    bool  // the last claim found fewer than it asked for: it is not asked until something happens
	full   bool  // its limits left the last claim no room: it is not asked until a batch of its job or project may have ended
	choosy bool  // it may have batches that wait for a session which holds nothing, or for another worker
	idle   bool  // it has given nothing since it was dry or full, or came
}

func newBoard(projectLimit int) *board {
	return &board{jobs: map[int64]*seat{}, projects: map[string]*project{}, projectLimit: projectLimit}
}

// refresh takes over which jobs are running. What is known of those that stay is kept.
func (b *board) refresh(running []job.Job) {
	next := make(map[int64]*seat, len(running))
	projects := make(map[string]*project, len(b.projects))
	for _, j := range running {
		s := b.jobs[j.ID]
		if s == nil {
			s = &seat{idle: true}
		}
		s.job = j
		next[j.ID] = s
		if projects[j.Project] == nil {
			if projects[j.Project] = b.projects[j.Project]; projects[j.Project] == nil {
				projects[j.Project] = &project{}
			}
		}
	}
	b.jobs, b.projects = next, projects
}

// stir says that a job, or with 0 every one, may have batches again.
func (b *board) stir(jobID int64) {
	b.free(jobID)
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

// free says that batches of a job, or with 0 of any, may have ended: there may be room for others under its limits and
// those of its project.
func (b *board) free(jobID int64) {
	b.reconsider()
	from := b.jobs[jobID]
	if from != nil && b.projectLimit == 0 {
		from.full = false
		return
	}
	for _, s := range b.jobs {
		// A job that is not here may be of any project: it may have been paused, or is being stopped.
		if from == nil || s.job.Project == from.job.Project {
			s.full = false
		}
	}
}

// limited says whether something may wait for batches of a job to end.
func (b *board) limited(jobID int64) bool {
	s := b.jobs[jobID]
	return b.projectLimit > 0 || b.waits.Load() > 0 || s != nil && s.job.Policy.MaxRunning > 0
}

// reconsider has jobs asked again of which batches wait for another session than those that asked.
func (b *board) reconsider() {
	if b.waits.Load() == 0 {
		return
	}
	b.waits.Store(0)
	for _, s := range b.jobs {
		if s.choosy {
			s.choosy, s.dry = false, false
		}
	}
}

// rewind makes the next claims ask the jobs that were dry, from their start: a backoff may have passed, and batches below
// the floor may have been locked by a claim that was rolled back. Besides at polls it does so when interval has passed, so
// that who comes after a quiet time waits for no poll.
func (b *board) rewind(polled bool, interval time.Duration) {
	now := time.Now()
	if !polled && now.Sub(b.rewound) < interval {
		return
	}
	b.rewound = now
	for _, s := range b.jobs {
		s.full = false
		if s.dry {
			s.dry, s.floor = false, 0
		}
	}
}

// turnsMost bounds the jobs that are asked at once.
const turnsMost = 128

// deal gives want batches to the jobs of the kinds, in turns. What a class of priority can give is not known before it is
// asked: lower ones are asked when it has run dry, or right behind it when it is a single job.
func (b *board) deal(kinds map[string]bool, want int) []store.Turn {
	var seats []*seat
	for _, s := range b.jobs {
		if kinds[s.job.Kind] && !s.dry && !s.full {
			seats = append(seats, s)
		}
	}
	if want <= 0 || len(seats) == 0 {
		return nil
	}
	slices.SortFunc(seats, func(a, c *seat) int {
		return cmp.Or(
			cmp.Compare(c.job.Priority, a.job.Priority),
			cmp.Compare(b.projects[a.job.Project].served, b.projects[c.job.Project].served),
			cmp.Compare(a.job.Project, c.job.Project),
			cmp.Compare(a.served, c.served),
			cmp.Compare(a.job.ID, c.job.ID))
	})
	var turns []store.Turn
	for len(seats) > 0 && len(turns) < turnsMost {
		n := 1
		for n < len(seats) && seats[n].job.Priority == seats[0].job.Priority {
			n++
		}
		class := dealClass(seats[:n], want)
		turns = append(turns, b.limit(class[:min(len(class), turnsMost-len(turns))])...)
		if n > 1 {
			break
		}
		seats = seats[n:]
	}
	return turns
}

// limit gives turns the limits of their jobs and projects. Jobs without a project share none.
func (b *board) limit(turns []store.Turn) []store.Turn {
	for i := range turns {
		j := &b.jobs[turns[i].JobID].job
		turns[i].JobLimit = int(j.Policy.MaxRunning)
		if b.projectLimit > 0 && j.Project != "" {
			turns[i].Project, turns[i].ProjectLimit = j.Project, b.projectLimit
		}
	}
	return turns
}

// dealClass deals want batches among jobs of one priority, a batch a turn, project by project and job by job. Jobs for
// which none is left stand behind, for what those before them do not give.
func dealClass(seats []*seat, want int) []store.Turn {
	turns := make([]store.Turn, len(seats))
	var hands [][]int // by project
	for i, s := range seats {
		turns[i] = store.Turn{JobID: s.job.ID, Floor: s.floor}
		if i == 0 || seats[i-1].job.Project != s.job.Project {
			hands = append(hands, nil)
		}
		hands[len(hands)-1] = append(hands[len(hands)-1], i)
	}
	for k := range want {
		h := hands[k%len(hands)]
		turns[h[(k/len(hands))%len(h)]].Most++
	}
	var behind []store.Turn
	first := turns[:0]
	for _, t := range turns {
		if t.Most > 0 {
			first = append(first, t)
		} else {
			t.Most = want
			behind = append(behind, t)
		}
	}
	return append(first, behind...)
}

// took notes what a claim gave.
func (b *board) took(turns []store.Turn, took map[int64]store.Took) {
	for _, t := range turns {
		s, got := b.jobs[t.JobID], took[t.JobID]
		if s == nil || got.Batches == 0 {
			continue
		}
		if got.Fresh > 0 {
			s.floor = max(s.floor, got.Last+1)
		}
		p := b.projects[s.job.Project]
		if s.idle {
			b.rejoin(s, p)
		}
		s.served += uint64(got.Batches)
		p.served += uint64(got.Batches)
	}
}

// rejoin has a job that comes, or comes back, go on where the others stand, and so its project if that had nothing either:
// nobody waits for others to catch up, or catches up on turns for which there was nothing to take.
func (b *board) rejoin(s *seat, p *project) {
	s.idle = false
	inJobs, inProjects := ^uint64(0), ^uint64(0)
	for _, other := range b.jobs {
		switch {
		case other == s || other.idle:
		case other.job.Project == s.job.Project:
			inJobs, inProjects = min(inJobs, other.served), 0
		default:
			inProjects = min(inProjects, b.projects[other.job.Project].served)
		}
	}
	// One before: the turn that it had just now is theirs in return.
	if inJobs != ^uint64(0) {
		s.served = max(s.served, max(inJobs, 1)-1)
	}
	if inProjects != ^uint64(0) {
		p.served = max(p.served, max(inProjects, 1)-1)
	}
}

// dried notes the jobs that gave less than they were asked for while callers still wait. One that was held back by a limit
// it shares, of which another left some, is neither dry nor full: it is asked again.
func (b *board) dried(turns []store.Turn, took map[int64]store.Took) {
	for _, t := range turns {
		s, got := b.jobs[t.JobID], took[t.JobID]
		if s == nil || got.Batches == t.Most {
			continue
		}
		s.dry = s.dry || got.Batches < t.Most-got.Held
		if got.Choosy && !s.choosy {
			s.choosy = true
			b.waits.Add(1)
		}
		s.full = s.full || got.Full
		s.idle = s.idle || s.dry || s.full
	}
}
