package ingest

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/tallyman-dev/tallyman/payload"
)

const (
	byteOrderMark = "\xef\xbb\xbf"
	jsonSpace     = " \t\r\n"

	// keptBytes is how much is kept of an item above the limit.
	keptBytes = 64 << 10

	// A buffer grows from smallBuffer to what the longest line needs, and is given back above largeBuffer.
	smallBuffer = 256 << 10
	largeBuffer = 4 << 20

	// emptyReads is how many reads in a row may return nothing before the source counts as broken.
	emptyReads = 100
)

// Reader reads the items of a JSON Lines file, which may be compressed by gzip or zstd, also one in the other; its
// content decides. It needs memory for the longest item and the decompressors' windows, whatever the size of the file.
//
// It is not safe for concurrent use. It owns no goroutines and needs no closing.
type Reader struct {
	config     ReaderConfig
	source     source
	in         io.Reader // decompressed; nil until opened
	compressed bool
	hash       hash.Hash

	buf        []byte
	start, end int   // unread bytes of buf
	inErr      error // of in; what came before it is in buf
	err        error // of Next, for good

	offset  int64 // of buf[start] in the decompressed file
	lines   int64 // complete lines before it
	item    int64
	sniffed bool // whether the file is known to be JSON Lines
	kept    []byte
}

// NewReader returns a Reader of src, which ends with io.EOF itself: any other error, also one that wraps it, is an upload
// that was interrupted. It reads nothing yet. An error is that of the config.
func NewReader(src io.Reader, config ReaderConfig) (*Reader, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("read upload: %w", err)
	}
	return &Reader{
		config: config.withDefaults(),
		source: source{r: src},
		hash:   sha256.New(),
		buf:    make([]byte, smallBuffer),
	}, nil
}

// Next returns the next item, whose Data is valid until the next call. Blank lines within the limit are skipped. An item above the limit
// is truncated to its first 64 KiB and not held in memory. It blocks while src does, and only while the next item has not
// arrived.
//
// At the end it returns io.EOF. A *FormatError says that the file cannot be read from here on; a line that it cuts
// through is no item. An error that wraps ErrUploadChanged says that the bytes before Resume are not those committed.
// Any other error wraps that of src. After an error it returns the same again.
func (r *Reader) Next() (payload.Item, error) {
	if r.err == nil && r.in == nil {
		r.err = r.open()
	}
	if r.err != nil {
		return payload.Item{}, r.err
	}
	it, err := r.next()
	if err != nil {
		r.err = err
	}
	return it, err
}

// Position returns where the next item starts. After an error of Next other than io.EOF it may lie inside a line.
func (r *Reader) Position() (Position, error) {
	var p Position
	err := r.position(&p)
	return p, err
}

// position is Position that reuses the memory of p.
func (r *Reader) position(p *Position) error {
	a, ok := r.hash.(encoding.BinaryAppender)
	if !ok {
		return errors.New("take position: SHA-256 has no readable state")
	}
	state, err := a.AppendBinary(p.Hash[:0])
	if err != nil {
		return fmt.Errorf("take position: %w", err)
	}
	*p = Position{Offset: r.offset, Line: r.lines, Item: r.item, Compressed: r.compressed, Hash: state}
	return nil
}

// Received returns how many bytes have been read from the source.
func (r *Reader) Received() int64 { return r.source.read }

func (r *Reader) open() error {
	resume := r.config.Resume
	if resume.Offset > 0 && !resume.Compressed {
		if err := restoreHash(r.hash, resume.Hash); err != nil {
			return err
		}
		r.in, r.offset, r.lines, r.item, r.sniffed = &r.source, resume.Offset, resume.Line, resume.Item, true
		return nil
	}
	in, compressed, err := decompress(&r.source, &r.config)
	r.compressed = compressed
	switch {
	case err == nil:
		r.in = in
	case resume.Offset > 0:
		return r.changed(err)
	default:
		return r.failure(err, false)
	}
	if resume.Offset > 0 {
		return r.skip(resume)
	}
	for !headDecided(r.buf[:r.end]) && r.inErr == nil {
		r.fill()
	}
	head := r.buf[:r.end]
	if k, ok := sniffMagic(head[:min(len(head), sniffHead)]); ok {
		return r.refuse(k)
	}
	if bytes.HasPrefix(head, []byte(byteOrderMark)) {
		r.consume(len(byteOrderMark))
	}
	return nil
}

// skip reads up to the position and checks that it reads what was read before.
func (r *Reader) skip(to Position) error {
	for r.offset < to.Offset {
		if r.start == r.end {
			if r.inErr != nil {
				return r.changed(r.inErr)
			}
			r.fill()
		}
		r.consume(int(min(int64(r.end-r.start), to.Offset-r.offset)))
	}
	committed, err := to.Digest()
	if err != nil {
		return err
	}
	if got := [sha256.Size]byte(r.hash.Sum(nil)); got != committed {
		return r.changed(errors.New("its bytes differ"))
	}
	r.lines, r.item, r.sniffed = to.Line, to.Item, true
	return nil
}

// changed says that a resumed upload ended, or was damaged, or differed, before where it had been read to.
func (r *Reader) changed(err error) error {
	if r.source.err != nil {
		return fmt.Errorf("read upload: %w", r.source.err)
	}
	// The cause is text only: it must not be taken for the end of the file, or for its format.
	return fmt.Errorf("resume %s at byte %d: %w: %s", r.config.File, r.config.Resume.Offset, ErrUploadChanged, err.Error())
}

func (r *Reader) next() (payload.Item, error) {
	for {
		n, err := r.line()
		if err != nil {
			return payload.Item{}, err
		}
		line := trimEnd(r.buf[r.start : r.start+n])
		long := int64(len(line)) > r.config.MaxItem
		if !long && blank(line) {
			r.consume(n)
			r.lines++
			continue
		}
		if !r.sniffed {
			if err := r.sniff(n, !long); err != nil {
				return payload.Item{}, err
			}
			line = trimEnd(r.buf[r.start : r.start+n]) // the buffer may have moved
		}
		it := payload.Item{Number: r.item + 1, File: r.config.File, Line: r.lines + 1, Offset: r.offset}
		if long {
			r.kept = append(r.kept[:0], line[:min(keptBytes, r.config.MaxItem)]...)
			it.Data = r.kept
			if it.Length, err = r.discard(); err != nil {
				return payload.Item{}, err
			}
		} else {
			it.Data, it.Length = line, int64(len(line))
			r.consume(n)
		}
		r.item++
		r.lines++
		return it, nil
	}
}

// line returns the length, with its end, of the line that the unread bytes begin with; of one above the limit, at least
// as much as shows that.
func (r *Reader) line() (int, error) {
	for seen := 0; ; {
		unread := r.buf[r.start:r.end]
		if i := bytes.IndexByte(unread[seen:], '\n'); i >= 0 {
			return seen + i + 1, nil
		}
		seen = len(unread)
		switch {
		case int64(seen) > r.config.MaxItem+1, seen > 0 && atEnd(r.inErr):
			return seen, nil
		case r.inErr != nil:
			return 0, r.failure(r.inErr, seen > 0)
		}
		r.fill()
	}
}

// discard reads to the end of the line without keeping it and returns its length.
func (r *Reader) discard() (int64, error) {
	begin, last := r.offset, byte(0)
	for {
		unread := r.buf[r.start:r.end]
		i := bytes.IndexByte(unread, '\n')
		if i < 0 {
			i = len(unread)
		}
		if i > 0 {
			last = unread[i-1]
		}
		r.consume(i)
		if i < len(unread) || atEnd(r.inErr) {
			break
		}
		if r.inErr != nil {
			return 0, r.failure(r.inErr, true)
		}
		r.fill()
	}
	length := r.offset - begin
	if last == '\r' {
		length--
	}
	if r.start < r.end {
		r.consume(1)
	}
	return length, nil
}

// sniff looks at the first line that is not blank, of which n bytes are there, and at what follows it as far as it must.
func (r *Reader) sniff(n int, whole bool) error {
	r.sniffed = true
	if whole && clearlyLine(r.buf[r.start:r.start+n]) {
		return nil
	}
	for whole && r.end-r.start < n+sniffAhead && r.inErr == nil {
		r.fill()
	}
	unread := r.buf[r.start:r.end]
	if k, ok := sniffLine(unread[:n], whole, unread[n:]); ok {
		return r.refuse(k)
	}
	return nil
}

// fill reads once from the source, unless it has failed. It may move the unread bytes.
func (r *Reader) fill() {
	if r.inErr != nil {
		return
	}
	if r.end == len(r.buf) || r.start == r.end {
		r.makeRoom()
	}
	for range emptyReads {
		n, err := r.in.Read(r.buf[r.end:])
		r.end += n
		r.inErr = err
		if limit := r.config.MaxBytes; r.offset+int64(r.end-r.start) > limit {
			r.inErr = &FormatError{Code: CodeTooLarge, CompressedOffset: r.source.read,
				Message: fmt.Sprintf("the file has more than %d bytes, the limit %s", limit, SettingMaxBytes)}
		}
		if n > 0 || r.inErr != nil {
			return
		}
	}
	r.inErr = io.ErrNoProgress
}

// makeRoom moves the unread bytes to the front of a buffer with room behind them.
func (r *Reader) makeRoom() {
	unread := r.buf[r.start:r.end]
	buf := r.buf
	switch {
	case len(buf) > largeBuffer && len(unread) < smallBuffer/2:
		buf = make([]byte, smallBuffer)
	case len(unread) > len(buf)/2:
		// More than the longest line and what is read behind the first is never needed.
		if size := min(2*int64(len(buf)), r.config.MaxItem+2*smallBuffer); size > int64(len(buf)) {
			buf = make([]byte, size)
		}
	}
	r.start, r.end = 0, copy(buf, unread)
	r.buf = buf
}

func (r *Reader) consume(n int) {
	r.hash.Write(r.buf[r.start : r.start+n])
	r.start += n
	r.offset += int64(n)
}

// failure completes an error met behind the unread bytes. inLine says that it cuts through a line.
func (r *Reader) failure(err error, inLine bool) error {
	var format *FormatError
	switch {
	case r.source.err != nil: // also when a decompressor has come to its end in spite of it
		return fmt.Errorf("read upload: %w", r.source.err)
	case atEnd(err):
		return io.EOF
	case !errors.As(err, &format):
		return fmt.Errorf("read upload: %w", err)
	}
	f := *format
	f.File, f.Line, f.Offset = r.config.File, r.lines+1, r.offset+int64(r.end-r.start)
	if inLine {
		f.Message += fmt.Sprintf("; line %d is not complete and was not taken", f.Line)
	}
	return &f
}

// refuse says that the file, at the next line, is not JSON Lines.
func (r *Reader) refuse(k kind) error {
	e := &FormatError{Code: CodeNotJSONLines, File: r.config.File, Line: r.lines + 1, Offset: r.offset,
		CompressedOffset: r.offset, Found: k.name,
		Message: fmt.Sprintf("this looks like %s, not like JSON Lines (one JSON value a line)", k.name)}
	if r.compressed {
		e.CompressedOffset = 0
	}
	if k.hint != "" {
		e.Message += "; " + k.hint
	}
	return e
}

// trimEnd returns a line without its end.
func trimEnd(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}

// blank reports whether a line holds nothing but white space.
func blank(line []byte) bool { return len(bytes.TrimLeft(line, jsonSpace)) == 0 }
