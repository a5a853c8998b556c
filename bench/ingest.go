package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/sample"
)

// documentBytes is about how large a generated document is, to make a file of a certain size.
const documentBytes = 1_290

// ingest uploads a generated collection and takes the time until all of it is committed and can be claimed. Beside it
// stands how long one thread takes to compress the same file, as a measure of the machine.
func ingest(ctx context.Context, c Config, engine Engine) (r Result, err error) {
	r.Settings = map[string]string{"megabytes": strconv.Itoa(c.Megabytes)}
	s, err := open(ctx, c, engine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	path := filepath.Join(s.dir, "collection.jsonl")
	size, err := generate(path, max(1, c.Megabytes*1e6/documentBytes))
	if err != nil {
		return r, err
	}
	compressing, err := compress(path)
	if err != nil {
		return r, err
	}
	file, err := os.Open(path)
	if err != nil {
		return r, fmt.Errorf("open the collection: %w", err)
	}
	defer file.Close()
	before, err := s.usage(ctx)
	if err != nil {
		return r, err
	}
	begun := time.Now()
	if _, err := s.client.Upload(ctx, file, client.Upload{Project: "bench", FileName: "collection.jsonl"}); err != nil {
		return r, fmt.Errorf("upload %s: %w", path, err)
	}
	took := time.Since(begun)
	after, err := s.usage(ctx)
	if err != nil {
		return r, err
	}
	used := after.since(before)
	megabytes := float64(size) / 1e6
	r.add("ingested", megabytes/took.Seconds(), "MB/s")
	r.add("compressed by one thread (zstd -1)", megabytes/compressing.Seconds(), "MB/s")
	r.add("time, of that of compressing", took.Seconds()/compressing.Seconds(), "×")
	r.add("processor time, coordinator", used.server.Seconds()*1e3/megabytes, "ms/MB")
	r.add("memory, coordinator at most", float64(peakMemory(s.server.cmd.Process.Pid))/1e6, "MB")
	return r, nil
}

func generate(path string, documents int) (int64, error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, fmt.Errorf("make a collection: %w", err)
	}
	made, err := sample.Generate(file, sample.Config{Documents: documents, Annotations: 12, Passages: 1})
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return 0, fmt.Errorf("make a collection: %w", err)
	}
	return made.Bytes, nil
}

// compress takes the time of compressing a file, which was just written, so that the disk has little part in it.
func compress(path string) (time.Duration, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("compress: %w", err)
	}
	defer file.Close()
	z, err := zstd.NewWriter(io.Discard, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return 0, fmt.Errorf("compress: %w", err)
	}
	begun := time.Now()
	_, err = io.Copy(z, file)
	if err = errors.Join(err, z.Close()); err != nil {
		return 0, fmt.Errorf("compress: %w", err)
	}
	return time.Since(begun), nil
}
