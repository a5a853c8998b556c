package ingest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// ioBuffer is the buffer before each decompressor, in bytes.
	ioBuffer = 64 << 10

	// decompressorRead bounds one Read from a decompressor: the zstd one fills whatever it is given, however long the
	// source pauses, so that with a large buffer lines that have arrived would wait.
	decompressorRead = 32 << 10

	// ratioSlack is how many decompressed bytes are free before the expansion ratio counts: small files of empty objects
	// expand a thousandfold and harm nobody.
	ratioSlack = 64 << 20
)

type compression string

const (
	plain    compression = ""
	gzipped  compression = "gzip"
	zstdized compression = "zstd"
)

func sniffCompression(head []byte) compression {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		return gzipped
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}),
		// A skippable frame, with which parallel compressors begin.
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		return zstdized
	}
	return plain
}

// atEnd reports whether an error of a reader says that it is at its end. Wrapped in another, io.EOF tells of a failure: a
// connection that ended, an upload that was interrupted. Taking that for the end would lose items silently.
func atEnd(err error) bool {
	return err == io.EOF //nolint:errorlint // see above: errors.Is would be wrong
}

// source counts what arrives and remembers how it failed, so that a failure of the source is never taken for damage of
// what it carries.
type source struct {
	r    io.Reader
	read int64
	err  error // never io.EOF, also not wrapped
}

func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.read += int64(n)
	if err == nil || atEnd(err) {
		return n, err
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %s", io.ErrUnexpectedEOF, err.Error())
	}
	s.err = err
	return n, err
}

// decompressed is one layer of decompression, with its bounds.
type decompressed struct {
	inner  io.Reader
	kind   compression
	config *ReaderConfig
	source *source
	buffer *bufio.Reader // over the source
	out    int64
}

func (d *decompressed) Read(p []byte) (int, error) {
	n, err := d.inner.Read(p[:min(len(p), decompressorRead)])
	d.out += int64(n)
	in := d.source.read
	if limit := d.config.MaxRatio; d.out > ratioSlack && d.out/limit > in {
		return 0, d.fail(CodeExpansionRatio, nil, "%d bytes of the upload expand to more than %d times as many, "+
			"the limit %s", in, limit, SettingMaxRatio)
	}
	if limit := d.config.MaxBytes; d.out > limit {
		return 0, d.fail(CodeTooLarge, nil, "the decompressed file has more than %d bytes, the limit %s",
			limit, SettingMaxBytes)
	}
	if err != nil && !atEnd(err) {
		err = d.rename(err)
	}
	return n, err
}

// rename makes a decompressor's error one that says what happened to the upload.
func (d *decompressed) rename(err error) error {
	var format *FormatError
	switch {
	case d.source.err != nil:
		return d.source.err
	case errors.As(err, &format): // of the layer below
		return format
	case errors.Is(err, io.ErrUnexpectedEOF):
		return d.fail(CodeTruncated, err, "the %s stream ends early", d.kind)
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return d.fail(CodeWindowTooLarge, err, "the zstd stream needs a window above %d bytes, the limit %s; "+
			"compress it without --long or --ultra", d.config.MaxWindow, SettingMaxWindow)
	}
	return d.fail(CodeCorrupt, err, "the %s stream is damaged: %v", d.kind, err)
}

// fail makes the error; the Reader, which knows it, adds the place in the decompressed file.
func (d *decompressed) fail(code string, cause error, format string, args ...any) *FormatError {
	at := d.source.read - int64(d.buffer.Buffered())
	return &FormatError{
		Code:             code,
		CompressedOffset: at,
		Found:            string(d.kind),
		Message:          fmt.Sprintf(format, args...) + fmt.Sprintf(" (compressed byte %d)", at),
		cause:            cause,
	}
}

// decompress detects, by content, the layers of compression that src has, and returns what is inside and whether there
// was any. It waits for no more bytes than it needs.
func decompress(src *source, config *ReaderConfig) (io.Reader, bool, error) {
	base := bufio.NewReaderSize(src, ioBuffer)
	layer := base
	for depth := 0; ; depth++ {
		kind, err := peekCompression(layer)
		if err != nil {
			return nil, depth > 0, err
		}
		if kind == plain {
			return layer, depth > 0, nil
		}
		d := &decompressed{kind: kind, config: config, source: src, buffer: base}
		if depth == config.MaxDepth {
			return nil, true, d.fail(CodeCompressionDepth, nil, "compressed more than %d times over, the limit %s",
				config.MaxDepth, SettingMaxDepth)
		}
		if err := d.open(layer); err != nil {
			return nil, true, d.rename(err)
		}
		layer = bufio.NewReaderSize(d, ioBuffer)
	}
}

func (d *decompressed) open(r *bufio.Reader) error {
	if d.kind == gzipped {
		z, err := gzip.NewReader(r)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		d.inner = z
		return err
	}
	// With one goroutine, the caller's, there is nothing to close.
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(uint64(d.config.MaxWindow)), zstd.WithDecoderMaxMemory(1<<62),
		zstd.WithDecodeBuffersBelow(0))
	d.inner = z
	return err
}

// peekCompression looks at the first byte and, where that may begin a magic number, at all of it. An error is that of
// the first byte.
func peekCompression(r *bufio.Reader) (compression, error) {
	head, err := r.Peek(1)
	if atEnd(err) {
		return plain, nil
	}
	if err != nil {
		return plain, err
	}
	if c := head[0]; c != 0x1f && c != 0x28 && c&0xf0 != 0x50 {
		return plain, nil
	}
	// Where fewer bytes come there is no magic number, and the next read meets the error again.
	head, _ = r.Peek(4)
	return sniffCompression(head), nil
}
