//go:build linux

package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Outcomes of items, besides isStored and isRejected.
const (
	isCrashed   = tallymanv1.Outcome_OUTCOME_CRASHED
	isFailed    = tallymanv1.Outcome_OUTCOME_FAILED
	isCancelled = tallymanv1.Outcome_OUTCOME_CANCELLED
)

// engines are the kinds of sites.
var engines = map[string]func(testing.TB) *site{"postgres": postgresSite, "sqlite": sqliteSite}

// ordeal is a job on a file of poison.
type ordeal struct {
	*site
	*poison
	t  *testing.T
	id int64 // of the job
}

// newOrdeal uploads a file to a site that is served, for workers of one kind.
func newOrdeal(t *testing.T, s *site, kind string, p *poison, policy *tallymanv1.Policy) *ordeal {
	t.Helper()
	own := *s
	own.t = t
	return &ordeal{site: &own, poison: p, t: t, id: own.upload(p.path, client.Upload{Kind: kind, Policy: policy})}
}

// exec starts a worker whose command handles the items.
func (s *site) exec(id, kind string, p *poison, flags ...string) *process {
	s.t.Helper()
	args := []string{"work", "--server", s.address, "--worker-id", id, "--kind", kind}
	return start(s.t, "work "+id, command{on: s.on, args: slices.Concat(args, p.command(), flags)})
}

// print returns what a verb prints about the job.
func (o *ordeal) print(verb string, flags ...string) string {
	o.t.Helper()
	args := []string{verb, "--job", strconv.FormatInt(o.id, 10), "--server", o.address}
	return succeed(o.t, append(args, flags...)...)
}

// death is the end of a process that was handling a batch.
type death struct {
	batch  *tallymanv1.Batch
	signal string
	item   int64 // that it had at hand; 0 when unknown
}

// root is the batch as it was cut.
func (d death) root() int64 { return cmp.Or(d.batch.GetRootId(), d.batch.GetBatchId()) }

// deaths returns every one that the job took, and fails the test for attempts that ended in another way, unless they
// completed or the job was stopped.
func (o *ordeal) deaths() []death {
	o.t.Helper()
	var all []death
	for _, b := range o.batches(o.id) {
		for _, a := range o.attempts(b.GetBatchId()) {
			switch a.GetEnd() {
			case tallymanv1.AttemptEnd_ATTEMPT_END_DIED:
			case tallymanv1.AttemptEnd_ATTEMPT_END_CANCELLED:
				continue
			default:
				o.t.Errorf("attempt %d at batch %d ended as %v: %s", a.GetAttempt(), b.GetBatchId(), a.GetEnd(), a.GetMessage())
				continue
			}
			d := death{batch: b, signal: a.GetCrash().GetSignal()}
			if c := a.GetCrash(); c.GetSuspect() > 0 {
				d.item = b.GetFirstItem() + int64(c.GetSuspect()) - 1
			}
			all = append(all, d)
		}
	}
	return all
}

// mostDeaths is how many a culprit may take when nobody knows which item a process has at hand.
func mostDeaths(batch int64) int { return int(math.Ceil(math.Log2(float64(batch)))) + 3 }

// checkNamed fails the test unless the culprits, and nothing else, are named by all that names them, with what is said of
// their deaths.
func (o *ordeal) checkNamed(said string, culprits ...int64) {
	o.t.Helper()
	var named []int64
	for _, b := range parse[tallymanv1.Batch](o.t, o.print("batches", "--state", "crashed", "-o", "json")) {
		named = append(named, b.GetSuspectItem())
		if !strings.Contains(b.GetError(), said) {
			o.t.Errorf("batch %d crashed over item %d with %q, which does not say %q", b.GetBatchId(), b.GetSuspectItem(), b.GetError(), said)
		}
	}
	slices.Sort(named)
	if diff := gocmp.Diff(culprits, named); diff != "" {
		o.t.Errorf("suspects of crashed batches (-want +got):\n%s", diff)
	}
	var found []int64
	for _, f := range parse[tallymanv1.Finding](o.t, o.print("findings", "-o", "json")) {
		if f.GetCode() != "ITEM_CRASHED" {
			continue
		}
		found = append(found, f.GetItem())
		if f.GetLine() != f.GetItem() || !strings.Contains(f.GetMessage(), said) {
			o.t.Errorf("the finding about item %d is of line %d and says %q, want %q", f.GetItem(), f.GetLine(), f.GetMessage(), said)
		}
	}
	slices.Sort(found)
	if diff := gocmp.Diff(culprits, found); diff != "" {
		o.t.Errorf("items that findings name (-want +got):\n%s", diff)
	}
	isCulprit := func(it numbered) bool { return slices.Contains(culprits, it.N) }
	if got, want := o.print("items", "--outcome", "crashed"), o.lines(isCulprit); got != want {
		o.t.Errorf("the items that crashed (-want +got):\n%s", gocmp.Diff(want, got))
	}
}

// checkResults fails the test unless all items but the culprits have their results, once and in the order of the upload.
func (o *ordeal) checkResults(culprits ...int64) {
	o.t.Helper()
	good := func(it numbered) bool { return !slices.Contains(culprits, it.N) }
	checkExport(o.t, o.results(good), o.print("results", "--bare"))
}

// checkGivenOnce fails the test unless every item was given to a process once, and those that do harm twice.
func (o *ordeal) checkGivenOnce() {
	o.t.Helper()
	given := o.given()
	for _, it := range o.items {
		want := 1
		if it.Deed != harmless {
			want = 2
		}
		if got := given[it.N]; got != want {
			o.t.Errorf("item %d was given to a process %d times, want %d", it.N, got, want)
		}
	}
}

// checkEnd fails the test unless the job ended so, with so many items of each outcome.
func (o *ordeal) checkEnd(job *tallymanv1.Job, state tallymanv1.JobState, want map[tallymanv1.Outcome]int64) {
	o.t.Helper()
	if job.GetState() != state {
		o.t.Errorf("the job is %v, want %v: %s", job.GetState(), state, job.GetReason())
	}
	checkSums(o.t, job, int64(len(o.items)))
	if diff := gocmp.Diff(want, outcomes(job)); diff != "" {
		o.t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// scaled is fewer items where everything takes longer.
func scaled(items int64) int64 {
	if raceEnabled {
		return items / 10
	}
	return items
}

// TestCulpritsAmongMany has three of very many items kill the process that handles them: they are named, and cost nothing
// but themselves.
func TestCulpritsAmongMany(t *testing.T) {
	t.Parallel()
	for name, open := range engines {
		t.Run("a line at a time, on "+name, func(t *testing.T) {
			t.Parallel()
			o, culprits := amongMany(t, open(t), scaled(100_000))
			o.checkResults(culprits...)
			o.checkGivenOnce()
			of := map[int64]int{}
			for _, d := range o.deaths() {
				of[d.item]++
				if d.signal != "SIGSEGV" {
					t.Errorf("the process with item %d died of %q, want SIGSEGV", d.item, d.signal)
				}
			}
			want := map[int64]int{culprits[0]: 2, culprits[1]: 2, culprits[2]: 2}
			if diff := gocmp.Diff(want, of); diff != "" {
				t.Errorf("deaths by the item at hand (-want +got):\n%s", diff)
			}
		})
		t.Run("a batch at a time, on "+name, func(t *testing.T) {
			t.Parallel()
			o, culprits := amongMany(t, open(t), scaled(20_000), "--exec-mode", "batch")
			good := func(it numbered) bool { return !slices.Contains(culprits, it.N) }
			checkExport(t, o.lines(good), o.print("items", "--outcome", "stored"))
			of := map[int64]int{}
			for _, d := range o.deaths() {
				of[d.root()]++
				if d.signal != "SIGSEGV" {
					t.Errorf("a process with batch %d died of %q, want SIGSEGV", d.batch.GetBatchId(), d.signal)
				}
			}
			const batch = 1000 // the default
			for root, n := range of {
				if n > mostDeaths(batch) {
					t.Errorf("batch %d, with one culprit among %d items, took %d deaths, want at most %d", root, batch, n, mostDeaths(batch))
				}
			}
			t.Logf("deaths of the batches with a culprit: %v", slices.Collect(maps.Values(of)))
			if len(of) != len(culprits) {
				t.Errorf("processes died over %d batches, want %d", len(of), len(culprits))
			}
		})
	}
}

// amongMany has a job done in which three items kill their process, and checks what is so in any mode.
func amongMany(t *testing.T, s *site, items int64, flags ...string) (o *ordeal, culprits []int64) {
	t.Helper()
	culprits = []int64{items/8 + 17, items/2 + 1, items - 1}
	deeds := map[int64]deed{}
	for _, n := range culprits {
		deeds[n] = segfault
	}
	p := newPoison(t, items, deeds)
	s.serve()
	began := time.Now()
	o = newOrdeal(t, s, "poison", p, nil)
	w := s.exec("worker", "poison", p, append(flags, "--slots", "4")...)
	job := s.await(o.id)
	t.Logf("%d items in %v", items, time.Since(began).Round(time.Millisecond))
	o.checkEnd(job, tallymanv1.JobState_JOB_STATE_COMPLETED_WITH_ERRORS, map[tallymanv1.Outcome]int64{isStored: items - 3, isCrashed: 3})
	o.checkNamed("SIGSEGV", culprits...)
	for _, n := range culprits {
		o.checkExplained(n)
	}
	w.terminate()
	return o, culprits
}

// checkExplained fails the test unless the program explains the batch of a culprit.
func (o *ordeal) checkExplained(culprit int64) {
	o.t.Helper()
	for _, b := range o.batches(o.id, tallymanv1.BatchState_BATCH_STATE_CRASHED) {
		if b.GetSuspectItem() != culprit {
			continue
		}
		text := succeed(o.t, "batches", strconv.FormatInt(b.GetBatchId(), 10), "--server", o.address)
		for _, said := range []string{"SIGSEGV", fmt.Sprintf("libnative: item %d is too much", culprit), "culprit"} {
			if !strings.Contains(text, said) {
				o.t.Errorf("what is shown of the batch of item %d does not say %q:\n%s", culprit, said, text)
			}
		}
		return
	}
	o.t.Errorf("item %d has no batch that crashed", culprit)
}
