package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

const (
	// isolatedKind is the kind of jobs some items of which kill the process that handles them.
	isolatedKind = "isolated"

	// culprit is what an item says that does.
	culprit = `"die"`

	// isolationSlots is how many child processes handle them.
	isolationSlots = 2
)

// crash kills workers that hold a batch, and takes the time until the batch is said to have crashed and until another
// worker has begun with it, with the usual settings and with short ones. Then it has items kill the processes that handle
// them, and takes the time until all others are stored and these are named.
func crash(ctx context.Context, c Config, engine Engine) (r Result, err error) {
	r.Settings = map[string]string{
		"kills": strconv.Itoa(c.Kills), "lines": strconv.Itoa(c.Lines), "culprits": strconv.Itoa(c.Culprits),
	}
	for _, how := range []struct {
		name  string
		flags []string
	}{
		{"usual", nil},
		{"short", []string{"--lease", "3s", "--heartbeat-interval", "500ms", "--reconnect-grace", "500ms"}},
	} {
		marked, handed, err := killed(ctx, c, engine, how.flags)
		if err != nil {
			return r, err
		}
		r.Distribution("marked, "+how.name, marked)
		r.Distribution("handed on, "+how.name, handed)
	}
	return r, isolate(ctx, c, engine, &r)
}

// killed kills one worker after the other, and returns how long it took until their attempts had ended and until another
// worker had begun with their batches.
func killed(ctx context.Context, c Config, engine Engine, flags []string) (marked, handed []time.Duration, err error) {
	s, err := open(ctx, c, engine, flags...)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	for n := range c.Kills {
		m, h, err := s.kill(ctx, n)
		if err != nil {
			return nil, nil, err
		}
		marked, handed = append(marked, m), append(handed, h)
	}
	return marked, handed, nil
}

// kill has a worker take a batch, waits until another one is there and works, and kills the first.
func (s *site) kill(ctx context.Context, n int) (marked, handed time.Duration, err error) {
	victim, err := start(ctx, s.dir, "victim-"+strconv.Itoa(n+1), s.program, "bench", "work", "--server", s.address, "--hold")
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		_ = victim.cmd.Process.Kill() // it may be gone by now
		<-victim.ended
	}()
	job, err := s.upload(ctx, 1, nil)
	if err != nil {
		return 0, 0, err
	}
	if _, err := s.holds(ctx, job, 1, startTimeout); err != nil {
		return 0, 0, err
	}
	heir := &starts{at: map[int64]time.Time{}, news: make(chan struct{}, 1)}
	dismiss, err := s.employ(ctx, noopKind, 1, heir)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, dismiss()) }()
	other, err := s.upload(ctx, 1, nil)
	if err != nil {
		return 0, 0, err
	}
	if _, err := heir.of(ctx, other); err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	if err := victim.cmd.Process.Kill(); err != nil {
		return 0, 0, fmt.Errorf("kill a worker: %w", err)
	}
	started, err := heir.of(ctx, job)
	if err != nil {
		return 0, 0, err
	}
	if _, err := s.ended(ctx, job); err != nil {
		return 0, 0, err
	}
	for batch, err := range s.client.Batches(ctx, &tallymanv1.ListBatchesRequest{JobId: job}) {
		if err != nil {
			return 0, 0, err
		}
		seen, err := s.client.Batch(ctx, batch.GetBatchId())
		if err != nil {
			return 0, 0, err
		}
		if len(seen.GetAttempts()) == 0 {
			return 0, 0, errors.New("the worker that was killed left no trace")
		}
		// The database's clock is this machine's. On a slow machine more attempts may have ended after the first.
		marked = seen.GetAttempts()[0].GetEndedAt().AsTime().Sub(begun)
	}
	return marked, started.Sub(begun), nil
}

// isolate has some of many items kill the child process that handles them. All must be accounted for in the end, and these
// named, no others.
func isolate(ctx context.Context, c Config, engine Engine, r *Result) (err error) {
	s, err := open(ctx, c, engine)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	err = s.hire(ctx, 1, "work", "--kind", isolatedKind, "--slots", strconv.Itoa(isolationSlots),
		"--exec", "exec '"+strings.ReplaceAll(s.program, "'", `'\''`)+"' bench child")
	if err != nil {
		return err
	}
	lines, guilty := mined(c.Lines, c.Culprits)
	begun := time.Now()
	up, err := s.client.Upload(ctx, strings.NewReader(lines), client.Upload{Kind: isolatedKind, FileName: "mined.jsonl"})
	if err != nil {
		return fmt.Errorf("upload %d items: %w", c.Lines, err)
	}
	var last *tallymanv1.Job
	for seen, err := range s.client.Watch(ctx, up.JobID) {
		if err != nil {
			return fmt.Errorf("watch job %d: %w", up.JobID, err)
		}
		last = seen
	}
	took := time.Since(begun)
	if err := s.accounted(ctx, last, int64(c.Lines), guilty); err != nil {
		return err
	}
	deaths := 0
	for batch, err := range s.client.Batches(ctx, &tallymanv1.ListBatchesRequest{JobId: up.JobID, PageSize: 1000}) {
		if err != nil {
			return err
		}
		seen, err := s.client.Batch(ctx, batch.GetBatchId())
		if err != nil {
			return err
		}
		for _, a := range seen.GetAttempts() {
			if a.GetEnd() == tallymanv1.AttemptEnd_ATTEMPT_END_DIED {
				deaths++
			}
		}
	}
	r.add("isolated in", took.Seconds(), "s")
	r.add("isolated, items", float64(c.Lines)/took.Seconds(), "items/s")
	r.add("deaths of each culprit", float64(deaths)/float64(len(guilty)), "")
	return nil
}

// accounted compares how a job ended with what it must have: every item has an outcome, and exactly the guilty are named.
func (s *site) accounted(ctx context.Context, job *tallymanv1.Job, items int64, guilty map[int64]bool) error {
	outcomes := map[tallymanv1.Outcome]int64{}
	for _, o := range job.GetProgress().GetItemsByOutcome() {
		outcomes[o.GetOutcome()] = o.GetItems()
	}
	crashed, stored := outcomes[tallymanv1.Outcome_OUTCOME_CRASHED], outcomes[tallymanv1.Outcome_OUTCOME_STORED]
	if n := int64(len(guilty)); crashed != n || stored != items-n {
		return fmt.Errorf("of %d items with %d culprits %d are stored and %d crashed; the job ended as %v", items, n, stored, crashed, job.GetState())
	}
	named := 0
	for finding, err := range s.client.Findings(ctx, &tallymanv1.ListFindingsRequest{JobId: job.GetJobId(), Code: "ITEM_CRASHED"}) {
		if err != nil {
			return err
		}
		if !guilty[finding.GetItem()] {
			return fmt.Errorf("item %d is named, which kills nobody", finding.GetItem())
		}
		named++
	}
	if named != len(guilty) {
		return fmt.Errorf("%d items are named of %d culprits", named, len(guilty))
	}
	return nil
}

// mined returns so many lines, and the numbers of those that kill, spread evenly among the others.
func mined(lines, culprits int) (string, map[int64]bool) {
	guilty := map[int64]bool{}
	for k := range min(lines, culprits) {
		guilty[int64((2*k+1)*lines/(2*min(lines, culprits)))+1] = true
	}
	var b strings.Builder
	for n := range int64(lines) {
		if guilty[n+1] {
			fmt.Fprintf(&b, "{\"n\":%d,\"do\":%s}\n", n+1, culprit)
		} else {
			fmt.Fprintf(&b, "{\"n\":%d}\n", n+1)
		}
	}
	return b.String(), guilty
}

// Child handles items as a command does, until there are no more: a line to each, and its own death to some.
func Child(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if strings.Contains(lines.Text(), culprit) {
			self, err := os.FindProcess(os.Getpid())
			if err != nil {
				return fmt.Errorf("die: %w", err)
			}
			if err := self.Kill(); err != nil {
				return fmt.Errorf("die: %w", err)
			}
			select {} // for the moment that it takes
		}
		if _, err := io.WriteString(out, "{}\n"); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read items: %w", err)
	}
	return nil
}
