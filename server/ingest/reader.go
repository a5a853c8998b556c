package ingest

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tallyman-dev/tallyman/payload"
)

const (
	byteOrderMark = "\xef\xbb\xbf"
	jsonSpace     = " \t\r\n"

	// keptBytes is how much is kept of an item above the limit.
	keptBytes = 64 << 10
)

// Item is an item as it was read.
type Item struct {
	payload.Item
	// Refusal says why it cannot be an item, without its place; nil for one that may be identified. What cannot be read in
	// an upload of which other things can be is a refused item, so that it is counted and has an outcome.
	Refusal *Finding
}

// Reader reads the items of an upload: JSON Lines, the elements of an array, or objects one after another; or of an archive
// of such files, tar or ZIP, also archives in archives. Any of these may be compressed by gzip or zstd, also one in the
// other. The content decides. It needs memory for the longest item and the decompressors' windows, whatever the size of the
// upload, and for a ZIP archive a temporary file and memory for its directory.
//
// It is not safe for concurrent use. It owns no goroutines.
type Reader struct {
	config ReaderConfig
	source source
	opened bool
	walker *walker
	window window
	values values // of the file at hand
	item   int64
	err    error // of Next, for good
}

// values reads the values of one file. Its errors are those of the window, some as a *cutError, and a *FormatError.
type values interface{ next() (value, error) }

// value is a value of a file, or what stands in its place.
type value struct {
	data    []byte // until the next one is read
	length  int64
	line    int64 // from 1
	offset  int64
	refusal *refusal
	spilled bool // above the limit; data is its beginning
}

// refusal says why something is no item.
type refusal struct{ code, message string }

// cutError says that an error cuts through a value.
type cutError struct {
	what string // before the number of the line
	line int64
	err  error
}

func (e *cutError) Error() string { return e.err.Error() }
func (e *cutError) Unwrap() error { return e.err }

// NewReader returns a Reader of src, which ends with io.EOF itself: any other error, also one that wraps it, is an upload
// that was interrupted. It reads nothing yet. An error is that of the config.
func NewReader(src io.Reader, config ReaderConfig) (*Reader, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("read upload: %w", err)
	}
	r := &Reader{config: config.withDefaults(), source: source{r: src}}
	r.walker = newWalker(&r.config, &r.source)
	r.window = window{hash: sha256.New(), maxItem: r.config.MaxItem, maxBytes: r.config.MaxBytes}
	return r, nil
}

// Close removes temporary files. Nothing can be read any more then.
func (r *Reader) Close() error {
	r.opened, r.err = true, errClosed
	return r.walker.close()
}

var errClosed = errors.New("read upload: the reader is closed")

// Next returns the next item, whose Data is valid until the next call. What separates items is skipped. An item above the
// limit is truncated to its first 64 KiB and not held in memory. It blocks while src does, and of JSON Lines only while the
// next item has not arrived.
//
// At the end it returns io.EOF. A *FormatError says that the upload cannot be read from here on; a value that it cuts
// through is no item. An error that wraps ErrUploadChanged says that the bytes before Resume are not those committed.
// Any other error wraps that of src. After an error it returns the same again.
func (r *Reader) Next() (Item, error) {
	if r.err == nil && !r.opened {
		r.opened = true
		r.err = r.open()
	}
	if r.err != nil {
		return Item{}, r.err
	}
	it, err := r.next()
	if err != nil {
		r.err = err
	}
	return it, err
}

// Position returns where the next item starts. After an error of Next other than io.EOF it may lie inside a value.
func (r *Reader) Position() (Position, error) {
	var p Position
	err := r.position(&p)
	return p, err
}

// position is Position that reuses the memory of p.
func (r *Reader) position(p *Position) error {
	a, ok := r.window.hash.(encoding.BinaryAppender)
	if !ok {
		return errors.New("take position: SHA-256 has no readable state")
	}
	state, err := a.AppendBinary(p.Hash[:0])
	if err != nil {
		return fmt.Errorf("take position: %w", err)
	}
	*p = Position{Offset: r.window.consumed, Line: r.window.lines, Item: r.item, Encoding: r.encoding(), Hash: state}
	return nil
}

func (r *Reader) encoding() Encoding {
	switch _, isElements := r.values.(*elements); {
	case r.walker.archived, isElements:
		return Itemized
	case r.walker.compressed:
		return Compressed
	}
	return Plain
}

// Received returns how many bytes have been read from the source.
func (r *Reader) Received() int64 { return r.source.read }

func (r *Reader) open() error {
	resume := r.config.Resume
	if resume.Offset > 0 && resume.Encoding == Plain {
		if err := restoreHash(r.window.hash, resume.Hash); err != nil {
			return err
		}
		r.window.reset(&r.source)
		r.window.offset, r.window.consumed, r.window.lines, r.item = resume.Offset, resume.Offset, resume.Line, resume.Item
		r.values = &lines{window: &r.window}
		return nil
	}
	switch {
	case resume.Offset > 0 && resume.Encoding == Compressed:
		return r.skipBytes(resume)
	case resume.Item > 0:
		return r.skipItems(resume)
	}
	return nil
}

// begin goes on to the next file and finds out how its values are written. There are none yet if it is an empty one of an
// archive.
func (r *Reader) begin() error {
	in, err := r.walker.next()
	if err != nil {
		return err
	}
	w := &r.window
	w.reset(in)
	if r.walker.archived {
		r.note(r.walker.place(r.walker.level()), "")
	}
	w.need(len(byteOrderMark))
	if bytes.HasPrefix(w.unread(), []byte(byteOrderMark)) {
		w.consume(len(byteOrderMark))
	}
	line, whole, err := r.firstLine()
	switch {
	case atEnd(err) && r.source.err == nil && r.walker.archived:
		return nil
	case err != nil:
		return err
	}
	form := formOf(line, whole)
	if form == undecided {
		w.need(len(line) + sniffAhead)
		line, ahead := w.unread()[:len(line)], w.unread()[len(line):]
		if form = formBefore(line, ahead[:min(len(ahead), sniffAhead)], r.config.Objects); form == otherForm {
			if w.err != nil && !atEnd(w.err) {
				return w.err
			}
			e := r.walker.budget.refuse(r.walker.level(), sniffText(bytes.Trim(line, jsonSpace), firstLine(ahead)))
			e.Line, e.Offset = w.lines+1, w.offset
			return e
		}
	}
	r.values = &lines{window: w}
	if form == jsonValues {
		r.values = newElements(w, r.walker.level())
	}
	return nil
}

// note makes the place of a file, and what stands in its place, a part of what was read. The upload's own name is not.
func (r *Reader) note(place, code string) {
	place = strings.TrimPrefix(place, r.config.File+"!")
	_, _ = io.WriteString(r.window.hash, "\x00"+place+"\x00"+code+"\x00") // a hash takes everything
}

// firstLine passes over blank lines and returns the first other one, of a very long one the beginning. It is io.EOF when
// there is none.
func (r *Reader) firstLine() (line []byte, whole bool, err error) {
	w := &r.window
	for seen, spaces := 0, 0; ; { // in the unread bytes; what is known to be space is not looked at again
		unread := w.unread()
		i := bytes.IndexByte(unread[seen:], '\n')
		seen += i + 1
		if i < 0 {
			seen = len(unread)
		}
		spaces = seen - len(bytes.TrimLeft(unread[spaces:seen], jsonSpace))
		switch line, blank := unread[:seen], spaces == seen; {
		case (i >= 0 || seen > sniffLine) && blank:
			w.consume(seen)
			seen, spaces = 0, 0
		case i >= 0, atEnd(w.err) && !blank:
			return line, true, nil
		case w.err != nil && blank:
			w.consume(seen)
			return nil, false, w.err
		case w.err == nil && seen <= sniffLine:
			w.fill()
		default: // whatever ends it is met again behind the line
			return line, false, nil
		}
	}
}

// skipBytes reads up to the position and checks that it reads what was read before.
func (r *Reader) skipBytes(to Position) error {
	in, err := r.walker.next()
	if err != nil {
		return r.changed(err)
	}
	w := &r.window
	w.reset(in)
	for w.offset < to.Offset {
		if !w.need(1) {
			return r.changed(w.err)
		}
		w.consume(int(min(int64(len(w.unread())), to.Offset-w.offset)))
	}
	w.lines, r.item = to.Line, to.Item
	r.values = &lines{window: w}
	return r.compare(to)
}

// skipItems does the same by reading the items.
func (r *Reader) skipItems(to Position) error {
	for r.item < to.Item {
		if _, err := r.next(); err != nil {
			return r.changed(err)
		}
	}
	return r.compare(to)
}

func (r *Reader) compare(to Position) error {
	committed, err := to.Digest()
	if err != nil {
		return err
	}
	if got := [sha256.Size]byte(r.window.hash.Sum(nil)); got != committed {
		return r.changed(errors.New("its bytes differ"))
	}
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

func (r *Reader) next() (Item, error) {
	for {
		if r.values == nil {
			if err := r.begin(); err != nil {
				return r.failed(err)
			}
			if r.values == nil {
				continue
			}
		}
		v, err := r.values.next()
		if err != nil {
			if atEnd(err) && r.source.err == nil && r.walker.archived {
				r.values = nil
				continue
			}
			return r.failed(err)
		}
		r.item++
		it := Item{Item: payload.Item{
			Number: r.item, File: r.walker.place(r.walker.level()), Line: v.line, Offset: v.offset, Data: v.data, Length: v.length,
		}}
		if v.refusal != nil {
			it.Refusal = &Finding{Code: v.refusal.code, Severity: SeverityError, Message: v.refusal.message}
		}
		return it, nil
	}
}

// failed returns an item in the place of a file, or an archive, of an archive that cannot be read further, unless it is the
// upload that cannot.
func (r *Reader) failed(err error) (Item, error) {
	err = r.failure(err)
	format, ok := errors.AsType[*FormatError](err)
	if !ok || format.fatal || format.level == 0 {
		return Item{}, err
	}
	r.values = nil
	if err := r.walker.leave(format.level); err != nil {
		return Item{}, err
	}
	r.note(format.File, format.Code)
	r.item++
	f := format.Finding()
	return Item{
		Item:    payload.Item{Number: r.item, File: f.File, Line: f.Line, Offset: f.Offset},
		Refusal: &f,
	}, nil
}

// failure completes an error met behind the unread bytes.
func (r *Reader) failure(err error) error {
	var format *FormatError
	var cut *cutError
	switch {
	case r.source.err != nil: // also when a decompressor has come to its end in spite of it
		return fmt.Errorf("read upload: %w", r.source.err)
	case atEnd(err):
		return io.EOF
	case !errors.As(err, &format):
		return fmt.Errorf("read upload: %w", err)
	}
	f, level := *format, r.walker.level()
	f.File = r.walker.place(f.level)
	if f.fatal {
		f.File = r.walker.place(level)
	}
	inFile := r.values != nil || errors.As(err, &cut)
	switch {
	case f.Line > 0:
	case inFile && (f.level == level || f.fatal):
		f.Line, f.Offset = r.window.lines+1, r.window.offset+int64(len(r.window.unread()))
	default:
		f.Line = 1
	}
	if errors.As(err, &cut) {
		where := ""
		if f.File == r.walker.place(level) {
			f.Line = cut.line
		} else {
			where = " of " + r.walker.place(level)
		}
		f.Message += fmt.Sprintf("; %s %d%s is not complete and was not taken", cut.what, cut.line, where)
	}
	return &f
}
