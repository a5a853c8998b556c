package storetest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
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
