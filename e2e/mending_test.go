//go:build linux

package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// TestCulpritsAreTriedAgain retries a culprit while it still kills its process, and all of them when they are mended: they
// alone are handled again, and what they did before stays known.
func TestCulpritsAreTriedAgain(t *testing.T) {
	t.Parallel()
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			s.serve()
			deeds := map[int64]deed{77: segfault, 150: segfault, 299: segfault}
			p := newPoison(t, 300, deeds)
			o := newOrdeal(t, s, "mended", p, &tallymanv1.Policy{BatchItems: 50})
			o.exec("worker", "mended", p, "--slots", "4")
			withCulprits := map[tallymanv1.Outcome]int64{isStored: 297, isCrashed: 3}
			o.checkEnd(o.await(o.id), jobWithErrors, withCulprits)
			o.checkNamed("SIGSEGV", 77, 150, 299)
			want := map[int64]int{77: 2, 150: 2, 299: 2}
			o.checkGiven(want)

			crashed := o.batches(o.id, tallymanv1.BatchState_BATCH_STATE_CRASHED)
			stubborn := crashed[0]
			o.retry("--batch", strconv.FormatInt(stubborn.GetBatchId(), 10))
			o.checkEnd(o.await(o.id), jobWithErrors, withCulprits)
			want[stubborn.GetSuspectItem()] = 4
			o.checkGiven(want)

			before := map[int64][]*tallymanv1.Attempt{}
			for _, b := range crashed {
				before[b.GetBatchId()] = o.attempts(b.GetBatchId())
			}
			p.cure()
			o.retry()
			o.checkEnd(o.await(o.id), jobSucceeded, map[tallymanv1.Outcome]int64{isStored: 300})
			o.checkResults()
			for n := range want {
				want[n]++
			}
			o.checkGiven(want)
			for id, attempts := range before {
				if diff := gocmp.Diff(attempts, o.attempts(id), protocmp.Transform()); diff != "" {
					t.Errorf("the history of batch %d (-before the retry +after):\n%s", id, diff)
				}
				text := succeed(t, "batches", strconv.FormatInt(id, 10), "--server", o.address)
				for _, said := range []string{"completed", "SIGSEGV", "libnative"} {
					if !strings.Contains(text, said) {
						t.Errorf("what is shown of batch %d does not say %q any more:\n%s", id, said, text)
					}
				}
			}
		})
	}
}

func (o *ordeal) retry(flags ...string) {
	o.t.Helper()
	succeed(o.t, slices.Concat([]string{"retry", strconv.FormatInt(o.id, 10), "--server", o.address}, flags)...)
}

// checkGiven fails the test unless every item was given to a process so many times, those that are not named once.
func (o *ordeal) checkGiven(times map[int64]int) {
	o.t.Helper()
	want := maps.Clone(times)
	for _, it := range o.items {
		if want[it.N] == 0 {
			want[it.N] = 1
		}
	}
	if diff := gocmp.Diff(want, o.given()); diff != "" {
		o.t.Errorf("how often items were given to processes (-want +got):\n%s", diff)
	}
}

// TestCulpritsAreUploadedAgain exports the items of a job that crashed, failed and were rejected, and uploads the file as it
// is when they are mended.
func TestCulpritsAreUploadedAgain(t *testing.T) {
	t.Parallel()
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			s.serve()
			// The attempt fails at item 110, and with it what is left of its batch.
			p := newPoison(t, 300, map[int64]deed{77: segfault, 110: tire, 201: refuse, 300: segfault})
			o := newOrdeal(t, s, "mended", p, &tallymanv1.Policy{BatchItems: 50, MaxAttempts: 1})
			o.exec("worker", "mended", p, "--slots", "4")
			o.checkEnd(o.await(o.id), jobWithErrors,
				map[tallymanv1.Outcome]int64{isStored: 256, isCrashed: 2, isFailed: 41, isRejected: 1})
			bad := func(it numbered) bool {
				return it.N == 77 || it.N >= 110 && it.N <= 150 || it.N == 201 || it.N == 300
			}
			exported := o.print("items", "--outcome", "crashed,failed,rejected")
			checkExport(t, p.lines(bad), exported)

			p.cure()
			dir := t.TempDir()
			path, data := filepath.Join(dir, "bad.jsonl"), filepath.Join(dir, "data")
			if err := os.WriteFile(path, []byte(exported), 0o600); err != nil {
				t.Fatal(err)
			}
			succeed(t, slices.Concat([]string{"run", path, "--data", data}, p.command())...)
			checkExport(t, p.results(bad), succeed(t, "results", "--bare", "--data", data))
		})
	}
}
