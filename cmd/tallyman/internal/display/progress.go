package display

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Progress shows how jobs go on. What is written to it stands above or between. It is safe for concurrent use.
type Progress interface {
	io.Writer
	// Update shows a snapshot of a job, which must not be of an earlier revision than the one before.
	Update(job *tallymanv1.Job)
	// Close leaves on the screen what there is, so that other output may follow. A later Update begins anew below it.
	Close()
}

// NewProgress returns bars for a terminal and plain lines for everything else.
func NewProgress(w io.Writer, terminal bool) Progress {
	if terminal {
		return &bars{w: w}
	}
	return &lines{w: w, jobs: make(map[int64]*lineState), now: time.Now}
}

// lineInterval is the shortest time between two lines of a job in the same state.
const lineInterval = 3 * time.Second

// lines says how jobs are when their state changes, otherwise now and then.
type lines struct {
	w   io.Writer
	now func() time.Time

	mu   sync.Mutex
	jobs map[int64]*lineState
}

type lineState struct {
	said  string
	at    time.Time
	phase string
}

var _ Progress = (*lines)(nil)

// Write writes between the lines.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// Update writes a line if it is time for one.
func (l *lines) Update(job *tallymanv1.Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.jobs[job.GetJobId()]
	if s == nil {
		s = new(lineState)
		l.jobs[job.GetJobId()] = s
	}
	if p := job.GetProgress(); p.GetItemsTotal() == 0 && p.GetBytesRead() == 0 && !client.Ended(job.GetState()) {
		return // nothing to say yet
	}
	now := l.now()
	current := phase(job)
	if current == s.phase && now.Sub(s.at) < lineInterval {
		return
	}
	text := fmt.Sprintf("job %d %s: %s, %s", job.GetJobId(), Clean(job.GetFileName()), current, describe(job))
	if text == s.said {
		return
	}
	s.said, s.at, s.phase = text, now, current
	fmt.Fprintln(l.w, text)
}

// Close does nothing: every line has been written.
func (l *lines) Close() {}

// phase says what a job is doing.
func phase(job *tallymanv1.Job) string {
	state := job.GetState()
	if state == tallymanv1.JobState_JOB_STATE_RUNNING && !job.GetIngestDone() {
		return "reading"
	}
	return spaced(JobState(state))
}

// describe says how far a job is, how fast, and what is wrong with it.
func describe(job *tallymanv1.Job) string {
	p := job.GetProgress()
	var parts []string
	if !job.GetIngestDone() {
		if total := p.GetBytesTotal(); total > 0 {
			parts = append(parts, fmt.Sprintf("%.0f %% read", 100*float64(p.GetBytesRead())/float64(total)))
		} else {
			parts = append(parts, Number(p.GetBytesRead())+" bytes read")
		}
	}
	parts = append(parts, fmt.Sprintf("%s of %s", Number(p.GetItemsEnded()), Plural(p.GetItemsTotal(), "item")))
	if n := errorsOf(p); n > 0 {
		parts = append(parts, Plural(n, "error"))
	}
	if n := p.GetWarnings(); n > 0 {
		parts = append(parts, Plural(n, "warning"))
	}
	if !client.Ended(job.GetState()) {
		if rate := p.GetItemsPerSecond(); rate > 0 {
			parts = append(parts, Number(int64(rate+0.5))+" items/s")
		}
		if p.GetEta() != nil {
			parts = append(parts, eta(p.GetEta().AsDuration())+" left")
		}
	}
	return strings.Join(parts, ", ")
}

func eta(d time.Duration) string { return max(d, time.Second).Round(time.Second).String() }

// fraction returns the share of a job that is done. While the file is still being read, the items behind what was read
// are estimated from those before.
func fraction(job *tallymanv1.Job) float64 {
	p := job.GetProgress()
	if client.Ended(job.GetState()) {
		return 1
	}
	if p.GetItemsTotal() == 0 {
		return 0
	}
	done := float64(p.GetItemsEnded()) / float64(p.GetItemsTotal())
	if !job.GetIngestDone() {
		if p.GetBytesTotal() == 0 {
			return 0
		}
		done *= min(1, float64(p.GetBytesRead())/float64(p.GetBytesTotal()))
	}
	return min(1, done)
}
