package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

// whole is a job with its items.
type whole struct {
	job     store.Job
	entries []store.Entry
}

// portion is a batch of a job, and what befalls the attempts at it before the last one.
type portion struct {
	whole
	kills []string
	split int // items of the first of the two batches that it is split into after that; 0: it is not
}

func drawWhole(t *rapid.T, job store.Job, sameText bool) whole {
	w := whole{job: job}
	number := int64(0)
	for range rapid.IntRange(0, 5).Draw(t, "items") {
		number += rapid.Int64Range(1, 2).Draw(t, "number")
		key := annotation.Key{SourceDB: "M", SourceID: strconv.Itoa(rapid.IntRange(1, 2).Draw(t, "document"))}
		if !sameText && rapid.Bool().Draw(t, "written") { // with chains
			w.entries = append(w.entries, store.Entry{Number: number, Item: parsed(t, drawWritten(t, key))})
			continue
		}
		item := drawItem(t, key)
		if sameText {
			item.Text, item.Length = "the same text for all", 21
		}
		for i := range item.Denotations {
			item.Denotations[i].Unnamed = rapid.IntRange(0, 3).Draw(t, "unnamed") == 0
		}
		w.entries = append(w.entries, store.Entry{Number: number, Item: item})
	}
	return w
}

// into returns the same job under another number, on documents of another database, in the same project of that name.
func (w whole) into(db string, number int64) whole {
	w.job.Project, w.job.ID = db+w.job.Project[strings.LastIndex(w.job.Project, "/"):], number
	entries := make([]store.Entry, len(w.entries))
	for i, e := range w.entries {
		item := *e.Item
		item.Key.SourceDB = db
		entries[i] = store.Entry{Number: e.Number, Item: &item}
	}
	w.entries = entries
	return w
}

func drawPortions(t *rapid.T, wholes []whole) []portion {
	var portions []portion
	for _, w := range wholes {
		for rest := w.entries; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "batch")
			portions = append(portions, portion{
				whole: whole{w.job, rest[:n]},
				kills: rapid.SliceOfN(rapid.SampledFrom([]string{"before", "at commit", "after", "frozen"}), 0, 2).Draw(t, "kills"),
				split: rapid.IntRange(0, n-1).Draw(t, "split"),
			})
			rest = rest[n:]
		}
	}
	if len(portions) == 0 {
		return nil
	}
	return append(rapid.Permutation(portions).Draw(t, "order"), rapid.SliceOfN(rapid.SampledFrom(portions), 0, 2).Draw(t, "repeated")...)
}

// put stores the portion in as many attempts as it takes. The same portion again is a batch of its own, as after a split.
func (p portion) put(ctx context.Context, w store.Writer) ([]store.Result, error) {
	lease := newLease()
	lease.Job = p.job.ID
	for _, kill := range p.kills {
		if err := p.die(ctx, w, lease, kill); err != nil {
			return nil, fmt.Errorf("attempt %d, killed %s: %w", lease.Attempt, kill, err)
		}
		lease.Attempt++
	}
	if p.split > 0 {
		return p.putSplit(ctx, w, lease)
	}
	return putBy(ctx, w, lease, p.job, p.entries)
}

// putSplit stores the portion as two batches, between which an attempt at the one that they come from wakes.
func (p portion) putSplit(ctx context.Context, w store.Writer, lease store.Lease) ([]store.Result, error) {
	if err := w.Begin(ctx, lease); err != nil {
		return nil, err
	}
	var results []store.Result
	for _, part := range [][]store.Entry{p.entries[:p.split], p.entries[p.split:]} {
		child := newLease()
		child.Ancestors = []int64{lease.Batch}
		rs, err := putBy(ctx, w, child, p.job, part)
		if err != nil {
			return nil, err
		}
		results = append(results, rs...)
		if _, err := collect(ctx, w, lease, p.job, p.entries); err != nil && !errors.Is(err, store.ErrFenced) {
			return nil, fmt.Errorf("the batch that was split ended with %w", err)
		}
	}
	return results, nil
}

// die makes an attempt that does not live to settle.
func (p portion) die(ctx context.Context, w store.Writer, lease store.Lease, kill string) error {
	if err := w.Begin(ctx, lease); err != nil {
		return err
	}
	want := store.ErrFenced
	switch kill {
	case "before":
		return nil
	case "at commit": // the lease runs out after all was written
		var calls atomic.Int32
		lease.Deadline = func() time.Time {
			if calls.Add(1) == 1 {
				return lasting()
			}
			return time.Now().Add(-time.Second)
		}
	case "after": // it has stored all and told nobody
		want = nil
	case "frozen": // it wakes when the next has begun
		next := lease
		next.Attempt++
		if err := w.Begin(ctx, next); err != nil {
			return err
		}
	}
	_, err := collect(ctx, w, lease, p.job, p.entries)
	if want == nil || err == nil { // what is decided already is told without a commit
		return err
	}
	if !errors.Is(err, want) {
		return fmt.Errorf("it ended with %w, want %w", err, want)
	}
	return nil
}

// racedInterleavings is how many are tried under the race detector.
const racedInterleavings = 8

// testInterleaving is the specification of what is promised of jobs at once: passages of one document in several batches,
// by several workers, in any order, with crashes and splits, in every mode, leave what they would in one batch. It lets
// jobs of all modes on the same documents come in any order, at once, repeated, and with attempts that die, and compares
// what is left with the same jobs one after the other and with the rules. Only what mode skip decides depends on the
// order, so that is taken as it was.
func testInterleaving(f *fixture) {
	t := f.T
	writers := []store.Writer{f.writer, f.newWriter(f.again())}
	base := int64(0)
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		if runs++; underRace && runs > racedInterleavings {
			return
		}
		const jobs = 4
		base += 2 * jobs
		sameText := rapid.Bool().Draw(t, "same text")
		var wholes []whole
		var overlaps func(context.Context, int64) (bool, error)
		if !sameText {
			overlaps = func(context.Context, int64) (bool, error) { return true, nil }
		}
		atOnce, inOrder := fmt.Sprintf("interleaved-%d", base), fmt.Sprintf("in-order-%d", base)
		for n := range int64(jobs) {
			mode := rapid.SampledFrom(store.Modes()).Draw(t, "mode")
			project := rapid.SampledFrom(interleavedProjects).Draw(t, "project")
			w := drawWhole(t, store.Job{Project: project, Mode: mode, Overlaps: overlaps}, sameText)
			wholes = append(wholes, w.into(atOnce, base+n))
		}

		results := make(map[[2]int64]store.Result)
		var mu sync.Mutex
		var group errgroup.Group
		group.SetLimit(rapid.IntRange(1, len(writers)).Draw(t, "writers"))
		for i, p := range drawPortions(t, wholes) {
			group.Go(func() error {
				rs, err := p.put(f.Context(), writers[i%len(writers)])
				mu.Lock()
				defer mu.Unlock()
				for i, r := range rs {
					key := [2]int64{p.job.ID, p.entries[i].Number}
					if first, again := results[key]; again && gocmp.Diff(first, r) != "" {
						return fmt.Errorf("item %d of job %d is first %v, then %v", key[1], key[0], first, r)
					}
					results[key] = r
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}

		documents := make(map[annotation.Key]*modelDocument)
		for i, w := range wholes {
			w.entries = notSkipped(t, w, results)
			for _, e := range w.entries {
				if documents[e.Item.Key] == nil {
					documents[e.Item.Key] = &modelDocument{projects: make(map[string]*model)}
				}
			}
			for key, d := range documents {
				d.do(w.job, slices.DeleteFunc(slices.Clone(w.entries), func(e store.Entry) bool { return e.Item.Key != key }))
			}
			w = w.into(inOrder, base+jobs+int64(i))
			if w.job.Mode == store.ModeSkip {
				w.job.Mode = store.ModeAdd // what it decided is known
			}
			if len(w.entries) == 0 {
				continue
			}
			if _, err := putBy(f.Context(), f.writer, newLease(), w.job, w.entries); err != nil {
				t.Fatal(err)
			}
		}
		if rapid.Bool().Draw(t, "forget") { // what is there stays, also of jobs into whose annotations others are merged
			var gone []int64
			for _, w := range wholes[:rapid.IntRange(1, jobs).Draw(t, "gone")] {
				gone = append(gone, w.job.ID)
			}
			for more := true; more; {
				var err error
				if more, err = f.writer.Forget(f.Context(), gone, rapid.IntRange(1, 20).Draw(t, "limit")); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, project := range interleavedProjects {
			got, err := exportOf(f.Context(), f.store, atOnce+project)
			if err != nil {
				t.Fatal(err)
			}
			want, err := exportOf(f.Context(), f.store, inOrder+project)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range want {
				item.Key.SourceDB = atOnce
			}
			if diff := diffItems(want, got); diff != "" {
				t.Fatalf("project %s (-in order +interleaved):\n%s", project, diff)
			}
			known := 0
			for _, d := range documents {
				if d.projects[atOnce+project] != nil {
					known++
				}
			}
			if len(got) != known {
				t.Fatalf("project %s has %d documents, want %d", project, len(got), known)
			}
			for _, item := range got {
				d := documents[item.Key]
				if err := d.projects[atOnce+project].check(item, d.text); err != nil {
					t.Fatalf("project %s, document %s: %v", project, item.Key, err)
				}
			}
		}
	})
}

var interleavedProjects = []string{"/a", "/b"}

// notSkipped returns the items of a job that were not skipped, and checks that it skipped whole documents only.
func notSkipped(t *rapid.T, w whole, results map[[2]int64]store.Result) []store.Entry {
	var entries []store.Entry
	skipped := make(map[annotation.Key]bool)
	for _, e := range w.entries {
		r := results[[2]int64{w.job.ID, e.Number}]
		skip := r.Outcome == annotation.Skipped
		if before, seen := skipped[e.Item.Key]; seen && before != skip || skip && w.job.Mode != store.ModeSkip {
			t.Fatalf("item %d of job %d in mode %s: %v", e.Number, w.job.ID, w.job.Mode, r)
		}
		if !skip && r.Outcome != annotation.Stored && r.Outcome != annotation.StoredWarnings {
			t.Fatalf("item %d of job %d in mode %s: %v", e.Number, w.job.ID, w.job.Mode, r)
		}
		if skipped[e.Item.Key] = skip; !skip {
			entries = append(entries, e)
		}
	}
	return entries
}
