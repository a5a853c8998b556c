//go:build linux

package e2e

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/client"
)

// TestUploadCut uploads over connections that break in the middle, and wants what an undisturbed upload gives.
func TestUploadCut(t *testing.T) {
	t.Parallel()
	c := small.undisturbed(t)
	s := postgresSite(t)
	s.serve()
	plain, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	s.work("worker", "--slots", "2")
	whole := s.upload(c.path, client.Upload{Project: "undisturbed"})
	s.await(whole) // since jobs on the same new documents have a say in each other's texts
	want := cuts(s.batches(whole))
	for _, form := range []struct {
		name    string
		content []byte
		source  func(io.ReadSeeker) io.Reader
	}{
		{"plain, a source that can seek", plain, func(r io.ReadSeeker) io.Reader { return r }},
		{"plain, a source that cannot", plain, func(r io.ReadSeeker) io.Reader { return struct{ io.Reader }{r} }},
		{"gzip, a source that can seek", gzipped(plain), func(r io.ReadSeeker) io.Reader { return r }},
		{"gzip, a source that cannot", gzipped(plain), func(r io.ReadSeeker) io.Reader { return struct{ io.Reader }{r} }},
	} {
		t.Run(form.name, func(t *testing.T) {
			size := int64(len(form.content))
			p := newProxy(t, s.address, size/4, size/2, size/3)
			got, err := dial(t, p.address()).Upload(t.Context(), form.source(bytes.NewReader(form.content)), client.Upload{
				Project: project, FileName: "small.jsonl", Size: size, ChunkBytes: 16 << 10,
			})
			if err != nil {
				t.Fatal(err)
			}
			if n := p.connections(); n < 4 {
				t.Errorf("%d connections were made, want at least 4, three of them cut", n)
			}
			if got.Items != c.summary.Items {
				t.Errorf("%d items, want %d", got.Items, c.summary.Items)
			}
			site := *s
			site.t = t
			site.checkTrial(site.await(got.JobID), c)
			if diff := cmp.Diff(want, cuts(site.batches(got.JobID))); diff != "" {
				t.Errorf("batches (-want +got):\n%s", tail(diff))
			}
		})
	}
}
