package ingest

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/tallyman-dev/tallyman/payload"
)

// repeated is a source of n times the same bytes, with a head and a tail.
func repeated(head, piece string, n int, tail string) io.Reader {
	r := &repeater{piece: []byte(piece), left: n}
	return io.MultiReader(strings.NewReader(head), r, strings.NewReader(tail))
}

type repeater struct {
	piece []byte
	at    int
	left  int
}

func (r *repeater) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && r.left > 0 {
		m := copy(p[n:], r.piece[r.at:])
		n, r.at = n+m, r.at+m
		if r.at == len(r.piece) {
			r.at = 0
			r.left--
		}
	}
	return n, nil
}

// heapWatcher is a sink that measures the heap as it goes and keeps nothing.
type heapWatcher struct {
	peak     uint64
	groups   int
	findings int
}

func (h *heapWatcher) Commit(_ context.Context, g *Group) error {
	if h.groups%16 == 0 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		h.peak = max(h.peak, m.HeapAlloc)
	}
	h.groups++
	for _, r := range g.Rejected {
		h.findings += len(r.Findings)
	}
	return nil
}

// TestMemoryIsConstant is not parallel: it measures the heap of the whole process.
func TestMemoryIsConstant(t *testing.T) {
	if raceEnabled {
		t.Skip("SKIPPED: the race detector takes memory of its own, and a quarter of an hour; the test without it measures")
	}
	object := `{"sourcedb":"PMC","sourceid":"1","text":"` + strings.Repeat("some words ", 200) + `"}` + "\n"
	tests := map[string]struct {
		src      func() io.Reader
		items    int64
		rejected int64
		limit    uint64 // in MiB
	}{
		"300 MB":                   {func() io.Reader { return repeated("", object, 130_000, "") }, 130_000, 0, 96},
		"300 MB rejected":          {func() io.Reader { return repeated("{}\n", "{bad"+object, 130_000, "") }, 130_001, 130_000, 96},
		"300 MB of gzip":           {func() io.Reader { return compressing(repeated("", object, 130_000, "")) }, 130_000, 0, 96},
		"short rejected ones":      {func() io.Reader { return repeated("{}\n", "{b\n", 200_000, "") }, 200_001, 200_000, 96},
		"empty objects":            {func() io.Reader { return repeated("", "{}\n", 1_000_000, "") }, 1_000_000, 0, 96},
		"blank lines":              {func() io.Reader { return repeated("{}", "\n", 10_000_000, "{}") }, 2, 0, 64},
		"a line of 100 MB":         {func() io.Reader { return repeated(`{"`, "xxxxxxxxxx", 10_000_000, "\n{}") }, 2, 1, 224},
		"a line of 300 MB":         {func() io.Reader { return repeated(`{"`, "xxxxxxxxxx", 30_000_000, "\n{}") }, 2, 1, 224},
		"nesting of 10,000":        {func() io.Reader { return repeated(`{"a":`, "[", 10_000, "\n{}\n") }, 2, 1, 64},
		"500 MB of an array":       {func() io.Reader { return repeated("[", strings.TrimSpace(object)+",\n", 220_000, "{}]") }, 220_001, 0, 96},
		"300 MB of pretty objects": {func() io.Reader { return repeated("{\n}\n", strings.ReplaceAll(object, ",", ",\n"), 130_000, "") }, 130_001, 0, 96},
		"300 MB nobody can tell":   {func() io.Reader { return repeated("[", "{\"a\":\"\n", 40_000_000, "") }, 1, 1, 64},
		"an element of 300 MB":     {func() io.Reader { return repeated(`[{"a":[`, "{\"b\":[1]},", 30_000_000, "0]},{}]") }, 2, 1, 224},
		"500 MB of tar":            {func() io.Reader { return archived(tarStream(500, repeat(object, 500))) }, 250_000, 0, 96},
		"500 MB of tgz":            {func() io.Reader { return compressing(archived(tarStream(500, repeat(object, 500)))) }, 250_000, 0, 96},
		"500 MB of zip":            {func() io.Reader { return archived(zipStream(500, repeat(object, 500))) }, 250_000, 0, 96},
		"200,000 files": {func() io.Reader {
			return archived(tarStream(200_000, func() io.Reader { return strings.NewReader("{}") }))
		}, 200_000, 0, 96},
		"200,000 bad files": {func() io.Reader {
			return archived(tarStream(200_000, func() io.Reader { return strings.NewReader("%PDF-") }))
		}, 200_000, 200_000, 96},
		"100,000 files of a zip": {func() io.Reader {
			return archived(zipStream(100_000, func() io.Reader { return strings.NewReader("{}") }))
		}, 100_000, 0, 128},
		"NUL and bad UTF-8": {func() io.Reader { return repeated("", "{\"\x00\xff\"\n", 1000, "") }, 1000, 1000, 64},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && test.items > 1000 {
				t.Skip("SKIPPED: -short")
			}
			runtime.GC()
			var before runtime.MemStats
			runtime.ReadMemStats(&before)
			sink := &heapWatcher{}
			sum, err := Run(t.Context(), io.NopCloser(test.src()), Config{Identify: identifyLast, Reader: ReaderConfig{SpoolDir: t.TempDir()}}, sink)
			if err != nil {
				t.Fatal(err)
			}
			if sum.Items != test.items || sum.Rejected != test.rejected || sum.Stopped != nil || int64(sink.findings) != test.rejected {
				t.Errorf("got %+v and %d findings, want %d items and %d rejected", sum, sink.findings, test.items, test.rejected)
			}
			if peak := int64(sink.peak) - int64(before.HeapAlloc); peak > int64(test.limit)<<20 {
				t.Errorf("the heap grew by %d MiB, want at most %d", peak>>20, test.limit)
			}
		})
	}
}

func repeat(piece string, n int) func() io.Reader {
	return func() io.Reader { return repeated("", piece, n, "") }
}

// archived is what is written into a pipe, by a goroutine that ends with it.
func archived(write func(io.Writer) error) io.Reader {
	out, in := io.Pipe()
	go func() { in.CloseWithError(write(in)) }()
	return out
}

// tarStream writes n files of the same content.
func tarStream(n int, content func() io.Reader) func(io.Writer) error {
	return func(w io.Writer) error {
		size, err := io.Copy(io.Discard, content())
		if err != nil {
			return err
		}
		z := tar.NewWriter(w)
		for i := range n {
			if err := z.WriteHeader(&tar.Header{Name: fmt.Sprintf("folder/%d.json", i), Size: size}); err != nil {
				return err
			}
			if _, err := io.Copy(z, content()); err != nil {
				return err
			}
		}
		return z.Close()
	}
}

func zipStream(n int, content func() io.Reader) func(io.Writer) error {
	return func(w io.Writer) error {
		z := zip.NewWriter(w)
		z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
		for i := range n {
			h := &zip.FileHeader{Name: fmt.Sprintf("folder/%d.json", i), Method: zip.Deflate}
			if n > 1000 {
				h.Method = zip.Store // to compress each takes long
			}
			f, err := z.CreateHeader(h)
			if err != nil {
				return err
			}
			if _, err := io.Copy(f, content()); err != nil {
				return err
			}
		}
		return z.Close()
	}
}

// identifyLast takes what begins and ends as an object does.
func identifyLast(it payload.Item) Identity {
	if bytes.HasPrefix(it.Data, []byte("{bad")) || !bytes.HasSuffix(it.Data, []byte("}")) {
		return Identity{Findings: []Finding{{Code: "BAD", Severity: SeverityError, Message: "bad"}}}
	}
	return Identity{}
}

// compressing compresses what it reads. Its goroutine ends with what it reads, or when the pipe is closed.
func compressing(r io.Reader) io.Reader {
	out, in := io.Pipe()
	go func() {
		z, err := gzip.NewWriterLevel(in, gzip.BestSpeed)
		if err == nil {
			_, err = io.Copy(z, r)
		}
		if err == nil {
			err = z.Close()
		}
		in.CloseWithError(err)
	}()
	return out
}

// corpus returns about 64 MB of lines of various lengths.
func corpus() (data []byte, lines int) {
	var b bytes.Buffer
	for b.Len() < 64<<20 {
		fmt.Fprintf(&b, `{"sourcedb":"PMC","sourceid":"%d","text":"`, lines)
		for i := range 50 + lines%300 {
			fmt.Fprintf(&b, "w%d ", i*lines%9973)
		}
		b.WriteString("\"}\n")
		lines++
	}
	return b.Bytes(), lines
}

func BenchmarkReader(b *testing.B) {
	data, lines := corpus()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		r, err := NewReader(bytes.NewReader(data), ReaderConfig{})
		if err != nil {
			b.Fatal(err)
		}
		cutter, n := NewCutter(CutConfig{}), 0
		for {
			it, err := r.Next()
			if atEnd(err) {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			cutter.Add("", 1, it.Length)
			n++
		}
		if n != lines {
			b.Fatalf("got %d items, want %d", n, lines)
		}
	}
}

func BenchmarkRun(b *testing.B) {
	data, lines := corpus()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		sum, err := Run(b.Context(), io.NopCloser(bytes.NewReader(data)), Config{}, &heapWatcher{})
		if err != nil || sum.Items != int64(lines) {
			b.Fatalf("got %+v, %v", sum, err)
		}
	}
}
