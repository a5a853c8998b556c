package ingest

import (
	"bytes"
	"fmt"
	"hash"
	"io"
)

const (
	// A buffer grows from smallBuffer to what the longest item needs, and is given back above largeBuffer.
	smallBuffer = 256 << 10
	largeBuffer = 4 << 20

	// emptyReads is how many reads in a row may return nothing before the source counts as broken.
	emptyReads = 100
)

// window is the part of a file that is in memory. What is consumed goes into the hash of the upload and is counted; what
// is unread may be looked at as often as needed.
type window struct {
	in         io.Reader
	buf        []byte
	start, end int   // unread bytes of buf
	err        error // of in; what came before it is in buf

	offset int64 // of buf[start] in the file
	lines  int64 // line ends before it

	hash     hash.Hash
	consumed int64 // bytes of all files of the upload before buf[start]
	maxItem  int64
	maxBytes int64
}

// reset begins with another file.
func (w *window) reset(in io.Reader) {
	w.in, w.err = in, nil
	w.start, w.end, w.offset, w.lines = 0, 0, 0, 0
}

// unread is valid until the next fill.
func (w *window) unread() []byte { return w.buf[w.start:w.end] }

// fill reads once from the source, unless it has failed. It may move the unread bytes.
func (w *window) fill() {
	if w.err != nil {
		return
	}
	if w.end == len(w.buf) || w.start == w.end {
		w.makeRoom()
	}
	for range emptyReads {
		n, err := w.in.Read(w.buf[w.end:])
		w.end += n
		w.err = err
		if limit := w.maxBytes; w.consumed+int64(w.end-w.start) > limit {
			w.err = &FormatError{Code: CodeTooLarge, fatal: true,
				Message: fmt.Sprintf("the upload has more than %d bytes, the limit %s", limit, SettingMaxBytes)}
		}
		if n > 0 || w.err != nil {
			return
		}
	}
	w.err = io.ErrNoProgress
}

// need fills until n bytes are unread, and reports whether they are: not when the file ends, or fails, before.
func (w *window) need(n int) bool {
	for w.end-w.start < n && w.err == nil {
		w.fill()
	}
	return w.end-w.start >= n
}

// makeRoom moves the unread bytes to the front of a buffer with room behind them.
func (w *window) makeRoom() {
	unread := w.unread()
	buf := w.buf
	switch {
	case len(buf) > largeBuffer && len(unread) < smallBuffer/2, len(buf) == 0:
		buf = make([]byte, smallBuffer)
	case len(unread) > len(buf)/2:
		// More than the longest item, or first line, and what is read behind the first is never needed.
		if size := min(2*int64(len(buf)), max(w.maxItem, sniffLine)+2*smallBuffer); size > int64(len(buf)) {
			buf = make([]byte, size)
		}
	}
	w.start, w.end = 0, copy(buf, unread)
	w.buf = buf
}

func (w *window) consume(n int) {
	b := w.buf[w.start : w.start+n]
	w.hash.Write(b)
	w.lines += int64(bytes.Count(b, newline))
	w.start += n
	w.offset += int64(n)
	w.consumed += int64(n)
}

var newline = []byte("\n")
