// Package storetest is the specification of an annotation store: what every engine must do, as tests.
package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

// Engine is what is tested.
type Engine struct {
	// Open opens an empty store that belongs to the test, and a function that opens the same store once more, as another
	// process would. The stores are closed when the test ends.
	Open func(t *testing.T) (store.Store, func() store.Store)

	// Query reads the store by SQL, as its users do, and returns every value as text.
	Query func(ctx context.Context, s store.Store, query string) ([][]string, error)
}

// Test tests an engine.
func Test(t *testing.T, engine Engine) {
	for name, test := range map[string]func(*fixture){
		"Annotations":         testAnnotations,
		"RepeatedItem":        testRepeatedItem,
		"Findings":            testFindings,
		"Misuse":              testMisuse,
		"ProgressIsDurable":   testProgress,
		"Fence":               testFence,
		"FenceOfSplitBatch":   testFenceOfSplitBatch,
		"RacingAttempts":      testRacingAttempts,
		"Deadline":            testDeadline,
		"Owner":               testOwner,
		"RefusedItem":         testRefusedItem,
		"Interrupted":         testInterrupted,
		"Closed":              testClosed,
		"OpenAtOnce":          testOpenAtOnce,
		"Passages":            testPassages,
		"PassagesInAnyOrder":  testPassagesInAnyOrder,
		"GivenText":           testGivenText,
		"GivenBySource":       testGivenBySource,
		"GivenInAnyOrder":     testGivenInAnyOrder,
		"GivenMisuse":         testGivenMisuse,
		"MissingAtSource":     testMissingAtSource,
		"Unknown":             testUnknown,
		"SecondJobOnPassages": testSecondJobOnPassages,
		"Alignment":           testAlignment,
		"LostPart":            testLostPart,
		"ManyLost":            testManyLost,
		"AlignedSuccessively": testAlignedSuccessively,
		"AlignedInAnyOrder":   testAlignedInAnyOrder,
		"AlignedAndComposed":  testAlignedAndComposed,
		"OtherJobsFollow":     testOtherJobsFollow,
		"Replace":             testReplace,
		"OlderJob":            testOlderJob,
		"Clear":               testClear,
		"ClashingIDs":         testClashingIDs,
		"ClashingIDsReversed": testClashingIDsReversed,
		"ClashInsideItem":     testClashInsideItem,
		"AbsentIDs":           testAbsentIDs,
		"Interleaving":        testInterleaving,
		"Add":                 testAdd,
		"Merge":               testMerge,
		"MergeFollowsText":    testMergeFollowsText,
		"Skip":                testSkip,
		"TwoReplace":          testTwoReplace,
		"TwoCompose":          testTwoCompose,
		"RefusedDocument":     testRefusedDocument,
		"RealModes":           testRealModes,
		"Forget":              testForget,
		"ForgetComposer":      testForgetComposer,
		"ForgetAtOnce":        testForgetAtOnce,
		"Jobs":                testJobs,
		"Views":               testViews,
		"ExportPages":         testExportPages,
		"ExportEnds":          testExportEnds,
		"RoundTrip":           testRoundTrip,
		"Agreement":           testAgreement,
		"RealDocuments":       testRealDocuments,
		"RealPassages":        testRealPassages,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newFixture(t, engine))
		})
	}
}

const cluster = "6ad4a3c1-1f0e-4c5a-9d0e-0f4b8a2f7c11"

// fixture is a store with a writer.
type fixture struct {
	*testing.T
	engine Engine
	store  store.Store
	writer store.Writer
	again  func() store.Store
}

func newFixture(t *testing.T, engine Engine) *fixture {
	t.Helper()
	s, again := engine.Open(t)
	f := &fixture{T: t, engine: engine, store: s, again: again}
	f.writer = f.newWriter(s)
	return f
}

func (f *fixture) newWriter(s store.Store) store.Writer {
	f.Helper()
	w, err := s.Writer(f.Context(), cluster)
	if err != nil {
		f.Fatal(err)
	}
	return w
}

var lastBatch atomic.Int64

// newLease returns the lease of the first attempt of a new batch of job 1, which lasts.
func newLease() store.Lease {
	return store.Lease{Batch: lastBatch.Add(1), Attempt: 1, Job: 1, Deadline: lasting}
}

func lasting() time.Time { return time.Now().Add(time.Hour) }

// job returns a job in a project, in mode replace.
func job(id int64, project string) store.Job {
	return store.Job{ID: id, Project: project, Mode: store.ModeReplace}
}

// parse reads items in their JSON form, one per line, which must be valid, and numbers them from 1.
func parse(t testing.TB, lines string) []store.Entry {
	t.Helper()
	var entries []store.Entry
	for line := range strings.Lines(lines) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		item, findings := annotation.Options{}.Parse([]byte(line))
		if item == nil {
			t.Fatalf("item %s: %v", line, findings)
		}
		entries = append(entries, store.Entry{Number: int64(len(entries) + 1), Item: item, Warnings: findings})
	}
	return entries
}

// put stores entries as one batch and returns their results.
func (f *fixture) put(job store.Job, entries []store.Entry) []store.Result {
	f.Helper()
	results, err := putBy(f.Context(), f.writer, newLease(), job, entries)
	if err != nil {
		f.Fatal(err)
	}
	return results
}

// putBy begins the lease's attempt, for the job, and stores entries.
func putBy(ctx context.Context, w store.Writer, lease store.Lease, job store.Job, entries []store.Entry) ([]store.Result, error) {
	lease.Job = job.ID
	if err := w.Begin(ctx, lease); err != nil {
		return nil, err
	}
	return collect(ctx, w, lease, job, entries)
}

func collect(ctx context.Context, w store.Writer, lease store.Lease, job store.Job, entries []store.Entry) ([]store.Result, error) {
	var results []store.Result
	err := w.Store(ctx, lease, job, entries, func(durable []store.Result) { results = append(results, durable...) })
	if err == nil && len(results) != len(entries) {
		err = fmt.Errorf("%d results for %d items", len(results), len(entries))
	}
	return results, err
}

// export returns a project's documents.
func (f *fixture) export(project string) []*annotation.Item {
	f.Helper()
	items, err := exportOf(f.Context(), f.store, project)
	if err != nil {
		f.Fatal(err)
	}
	return items
}

func exportOf(ctx context.Context, s store.Store, project string) ([]*annotation.Item, error) {
	var items []*annotation.Item
	err := s.Export(ctx, project, func(item *annotation.Item) error {
		items = append(items, item)
		return nil
	})
	return items, err
}

// wantExport compares a project's documents with items in their JSON form, one per line.
func (f *fixture) wantExport(project, lines string) {
	f.Helper()
	var want []*annotation.Item
	for _, e := range parse(f, lines) {
		want = append(want, e.Item)
	}
	if diff := diffItems(want, f.export(project)); diff != "" {
		f.Errorf("project %s (-want +got):\n%s", project, diff)
	}
}

var equateItems = cmpopts.EquateEmpty()

func diffItems(want, got []*annotation.Item) string {
	return gocmp.Diff(want, got, equateItems, gocmp.AllowUnexported(annotation.Value{}))
}

// wantOutcomes compares outcomes.
func (f *fixture) wantOutcomes(results []store.Result, want ...annotation.Outcome) {
	f.Helper()
	var got []annotation.Outcome
	for _, r := range results {
		got = append(got, r.Outcome)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		f.Errorf("outcomes (-want +got):\n%s\n%v", diff, results)
	}
}

// wantCodes compares the findings' codes and paths, as "CODE path".
func (f *fixture) wantCodes(result store.Result, want ...string) {
	f.Helper()
	var got []string
	for _, finding := range result.Findings {
		got = append(got, strings.TrimSpace(string(finding.Code)+" "+finding.Path))
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := gocmp.Diff(want, got); diff != "" {
		f.Errorf("findings (-want +got):\n%s\n%v", diff, result.Findings)
	}
}

// wantError checks that an error is one, and is what it should be.
func (f *fixture) wantError(err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Errorf("error %v, want %v", err, want)
	}
}

// byNumber sorts entries as Store takes them.
func byNumber(entries []store.Entry) []store.Entry {
	return slices.SortedFunc(slices.Values(entries), func(a, b store.Entry) int { return cmp.Compare(a.Number, b.Number) })
}
