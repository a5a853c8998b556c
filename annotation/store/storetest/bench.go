package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/sample"
)

// Benchmark measures how fast documents of 1,300 characters with 20 annotations each are stored, a batch of 25 at a time
// by one writer, and reports it as annotations a second.
func Benchmark(b *testing.B, s store.Store) {
	b.Helper()
	const batch, annotations = 25, 20
	w, err := s.Writer(b.Context(), cluster)
	if err != nil {
		b.Fatal(err)
	}
	text := strings.Repeat("Selegiline-induced hypotension. ", 40)
	number := int64(0)
	began := time.Now()
	for b.Loop() {
		entries := make([]store.Entry, batch)
		for i := range entries {
			number++
			item := &annotation.Item{
				Key:  annotation.Key{SourceDB: "B", SourceID: strconv.FormatInt(number, 10)},
				Text: fmt.Sprint(text, number),
			}
			item.Length = len(item.Text)
			for n := range annotations {
				item.Denotations = append(item.Denotations, annotation.Span{ID: fmt.Sprint("T", n), Begin: n, End: n + 10, Obj: "Chemical"})
			}
			entries[i] = store.Entry{Number: number, Item: item}
		}
		if _, err := putBy(b.Context(), w, newLease(), job(1, "bench"), entries); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(number)*annotations/time.Since(began).Seconds(), "annotations/s")
}

const (
	benchDocuments = "TALLYMAN_BENCH_DOCUMENTS" // how many documents BenchmarkLoad stores
	usualDocuments = 10_000
	batchWeight    = 500 // as uploads are cut by default
	benchWriters   = 8   // as a few workers have
)

// Cost is what something takes: time, and time of this process on processors, which does not depend on what else the
// machine does.
type Cost struct{ Time, Processor time.Duration }

// Measure does something and adds what it takes.
func (c *Cost) Measure(do func() error) error {
	began, used := time.Now(), processorTime()
	err := do()
	c.Time, c.Processor = c.Time+time.Since(began), c.Processor+processorTime()-used
	return err
}

// BenchmarkLoad measures the validation and storing of a collection, in batches of weight 500 by eight writers, and beside
// it how long a load of the same rows into the same tables takes by the quickest means that the engine has, in one
// transaction. The collection is BC5CDR over and over, if it is beside the checkout, else a generated one of that size.
// TALLYMAN_BENCH_DOCUMENTS says how many documents, 10,000 if it does not.
func BenchmarkLoad(b *testing.B, open func() store.Store, load func(from store.Store) (rows int64, cost Cost)) {
	b.Helper()
	documents := usualDocuments
	if n, err := strconv.Atoi(os.Getenv(benchDocuments)); err == nil && n > 0 {
		documents = n
	}
	items := benchItems(b, documents)
	for b.Loop() {
		s := open()
		var storing Cost
		if err := storing.Measure(func() error { return storeAll(b, s, items) }); err != nil {
			b.Fatal(err)
		}
		counts, err := s.Count(b.Context(), "bench")
		if err != nil {
			b.Fatal(err)
		}
		if counts.Documents != int64(documents) {
			b.Fatalf("%d documents are stored, want %d", counts.Documents, documents)
		}
		rows, loading := load(s)
		took, loaded := storing.Time.Seconds(), loading.Time.Seconds()
		b.Logf("%d documents, %d annotations, %d rows: validated and stored in %v, loaded in %v, ratio %.2f", counts.Documents,
			counts.Annotations(), rows, storing.Time.Round(time.Millisecond), loading.Time.Round(time.Millisecond), took/loaded)
		b.ReportMetric(float64(counts.Documents)/took, "documents/s")
		b.ReportMetric(float64(counts.Annotations())/took, "annotations/s")
		b.ReportMetric(float64(counts.Annotations())/loaded, "loaded-annotations/s")
		b.ReportMetric(took/loaded, "ratio")
		b.ReportMetric(storing.Processor.Seconds(), "processor-s")
		if loading.Processor > 0 {
			b.ReportMetric(storing.Processor.Seconds()/loading.Processor.Seconds(), "processor-ratio")
		}
		b.ReportMetric(0, "ns/op") // means nothing
	}
}

// benchItems returns raw items of as many documents.
func benchItems(b *testing.B, documents int) [][]byte {
	b.Helper()
	corpus, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "shared", "data", "annotations", "bc5cdr.jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		b.Logf("BC5CDR is not beside this checkout: a generated collection takes its place")
		var out bytes.Buffer
		if _, err := sample.Generate(&out, sample.Config{Documents: documents}); err != nil {
			b.Fatal(err)
		}
		return bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	}
	if err != nil {
		b.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(corpus), []byte("\n"))
	items := make([][]byte, 0, documents)
	id := []byte(`"sourceid":"`)
	for n := range documents {
		items = append(items, bytes.Replace(lines[n%len(lines)], id, fmt.Appendf(id[:len(id):len(id)], "%d-", n/len(lines)), 1))
	}
	return items
}

// storeAll does what workers do with the batches of an upload.
func storeAll(b *testing.B, s store.Store, items [][]byte) error {
	b.Helper()
	w, err := s.Writer(b.Context(), cluster)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(benchWriters)
	for first := 0; first < len(items); {
		n, weight := 0, 0
		for first+n < len(items) && weight < batchWeight {
			summary, _ := annotation.Options{}.Scan(items[first+n]) // the coordinator's work, but a small part of it
			weight += summary.Weight
			n++
		}
		batch, number := items[first:first+n], int64(first)+1
		group.Go(func() error {
			var entries []store.Entry
			for i, raw := range batch {
				item, findings := annotation.Options{}.Parse(raw)
				if item == nil {
					return fmt.Errorf("item %d: %v", number+int64(i), findings)
				}
				entries = append(entries, store.Entry{Number: number + int64(i), Item: item, Warnings: findings})
			}
			_, err := putBy(ctx, w, newLease(), job(1, "bench"), entries)
			return err
		})
		first += n
	}
	return group.Wait()
}
