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

// budget is what an upload may cost, all its files together.
type budget struct {
	config   *ReaderConfig
	source   *source
	base     *bufio.Reader // over the source
	expanded int64         // bytes that came out of decompressors
	entries  int64         // of archives
	spooled  int64         // bytes in temporary files
}

// at returns about how many bytes of the upload have been used.
func (b *budget) at() int64 { return b.source.read - int64(b.base.Buffered()) }

// expand counts bytes that came out of a decompressor.
func (b *budget) expand(n int) error {
	b.expanded += int64(n)
	if limit := b.config.MaxRatio; b.expanded > ratioSlack && b.expanded/limit > b.source.read {
		return &FormatError{Code: CodeExpansionRatio, CompressedOffset: b.at(), fatal: true, Message: fmt.Sprintf(
			"%d bytes of the upload expand to more than %d times as many, the limit %s", b.source.read, limit, SettingMaxRatio)}
	}
	return nil
}

// fail makes an error of a stream at a level; the Reader, which knows it, adds the place in the decompressed file.
func (b *budget) fail(level int, code, found string, cause error, format string, args ...any) *FormatError {
	at := b.at()
	return &FormatError{
		Code:             code,
		CompressedOffset: at,
		Found:            found,
		Message:          fmt.Sprintf(format, args...) + fmt.Sprintf(" (byte %d of the upload)", at),
		cause:            cause,
		level:            level,
	}
}

// refuse says that a file holds no items.
func (b *budget) refuse(level int, k kind) *FormatError {
	e := &FormatError{Code: CodeNotJSON, CompressedOffset: b.at(), Found: k.name, level: level,
		Message: fmt.Sprintf("this looks like %s, not like JSON", k.name)}
	if k.hint != "" {
		e.Message += "; " + k.hint
	}
	return e
}

// decompressed is one layer of decompression, with its bounds.
type decompressed struct {
	inner  io.Reader
	gzip   *gzip.Reader  // what inner is, to be used again
	zstd   *zstd.Decoder // the same
	kind   compression
	level  int
	budget *budget
	out    int64
}

func (d *decompressed) Read(p []byte) (int, error) {
	n, err := d.inner.Read(p[:min(len(p), decompressorRead)])
	d.out += int64(n)
	if err := d.budget.expand(n); err != nil {
		return 0, err
	}
	if limit := d.budget.config.MaxBytes; d.out > limit {
		return 0, &FormatError{Code: CodeTooLarge, CompressedOffset: d.budget.at(), Found: string(d.kind), fatal: true,
			Message: fmt.Sprintf("the decompressed file has more than %d bytes, the limit %s", limit, SettingMaxBytes)}
	}
	if err != nil && !atEnd(err) {
		err = d.rename(err)
	}
	return n, err
}

// rename makes a decompressor's error one that says what happened to the upload.
func (d *decompressed) rename(err error) error {
	var format *FormatError
	b := d.budget
	switch {
	case b.source.err != nil:
		return b.source.err
	case errors.As(err, &format): // of the layer below
		return format
	case errors.Is(err, io.ErrUnexpectedEOF):
		return b.fail(d.level, CodeTruncated, string(d.kind), err, "the %s stream ends early", d.kind)
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return b.fail(d.level, CodeWindowTooLarge, string(d.kind), err, "the zstd stream needs a window above %d bytes, "+
			"the limit %s; compress it without --long or --ultra", b.config.MaxWindow, SettingMaxWindow)
	}
	return b.fail(d.level, CodeCorrupt, string(d.kind), err, "the %s stream is damaged: %v", d.kind, err)
}

func (d *decompressed) open(r *bufio.Reader) error {
	if d.kind == gzipped {
		err := d.openGzip(r)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if d.zstd != nil {
		d.inner = d.zstd
		return d.zstd.Reset(r)
	}
	// With one goroutine, the caller's, there is nothing to close.
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(uint64(d.budget.config.MaxWindow)), zstd.WithDecoderMaxMemory(1<<62),
		zstd.WithDecodeBuffersBelow(0))
	d.inner, d.zstd = z, z
	return err
}

func (d *decompressed) openGzip(r *bufio.Reader) (err error) {
	if d.gzip == nil {
		d.gzip = new(gzip.Reader)
	}
	d.inner = d.gzip
	return d.gzip.Reset(r)
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

// peekHead returns the first bytes, as many as are needed to tell what they are not, and at most sniffHead. It waits for
// no more.
func peekHead(r *bufio.Reader) []byte {
	for {
		head, _ := r.Peek(min(r.Buffered(), sniffHead))
		if len(head) == sniffHead || headDecided(head) {
			return head
		}
		// Where no more come the next read meets the error again.
		if _, err := r.Peek(len(head) + 1); err != nil {
			return head
		}
	}
}
