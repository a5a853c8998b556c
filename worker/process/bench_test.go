//go:build unix

package process_test

import (
	"testing"

	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/process"
)

// BenchmarkStream is what an item costs beside what the command does with it: here, writing it back.
func BenchmarkStream(b *testing.B) {
	h, err := process.New(process.Config{Command: "exec cat"})
	if err != nil {
		b.Fatal(err)
	}
	batch := items(make([]string, b.N)...)
	for i := range batch.Items {
		batch.Items[i].Data = []byte(`{"result":12345}`)
	}
	b.ResetTimer()
	results, err := worker.Try(b.Context(), h, batch)
	b.StopTimer()
	if err != nil || len(results) != b.N {
		b.Error(len(results), err)
	}
	if err := h.Close(); err != nil {
		b.Error(err)
	}
}

// BenchmarkStart is what a process costs: a batch in mode Batch, of a command that does nothing.
func BenchmarkStart(b *testing.B) {
	h, err := process.New(process.Config{Command: "cat >/dev/null", Mode: process.Batch})
	if err != nil {
		b.Fatal(err)
	}
	batch := items(`1`, `2`)
	for b.Loop() {
		if results, err := worker.Try(b.Context(), h, batch); err != nil || len(results) != 2 {
			b.Fatal(len(results), err)
		}
	}
	b.StopTimer()
	if err := h.Close(); err != nil {
		b.Error(err)
	}
}
