package annotation_test

import (
	"testing"

	"github.com/tallyman-dev/tallyman/annotation"
)

func BenchmarkScan(b *testing.B) {
	benchmarkLines(b, func(options annotation.Options, line []byte) []annotation.Finding {
		_, findings := options.Scan(line)
		return findings
	})
}

func BenchmarkParse(b *testing.B) {
	benchmarkLines(b, func(options annotation.Options, line []byte) []annotation.Finding {
		_, findings := options.Parse(line)
		return findings
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	items := lines(b, sharedData(b, "annotations/bc5cdr.jsonl"))
	var options annotation.Options
	var parsed []*annotation.Item
	var buffer []byte
	for _, line := range items {
		item, _ := options.Parse(line)
		parsed = append(parsed, item)
		buffer = item.AppendJSON(buffer)
	}
	b.SetBytes(int64(len(buffer)))
	b.ReportAllocs()
	for b.Loop() {
		buffer = buffer[:0]
		for _, item := range parsed {
			buffer = item.AppendJSON(buffer)
		}
	}
}

// benchmarkLines goes over all items of a real collection in each iteration.
func benchmarkLines(b *testing.B, read func(annotation.Options, []byte) []annotation.Finding) {
	b.Helper()
	content := sharedData(b, "annotations/bc5cdr.jsonl")
	items := lines(b, content)
	var options annotation.Options
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		for _, line := range items {
			if annotation.HasError(read(options, line)) {
				b.Fatal("a valid item was rejected")
			}
		}
	}
	b.ReportMetric(float64(len(items)*b.N)/b.Elapsed().Seconds(), "items/s")
}
