package ingest

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tallyman-dev/tallyman/internal/bundle"
)

const tarBlock = 512

// tarArchive gives the entries of a tar archive, or of several one after another, as they come.
type tarArchive struct {
	in     *bufio.Reader
	tail   endMark
	reader *tar.Reader
	level  int
	budget *budget
	begun  bool
}

func newTar(in *bufio.Reader, level int, b *budget) *tarArchive {
	t := &tarArchive{in: in, level: level, budget: b}
	t.restart()
	return t
}

func (t *tarArchive) restart() {
	t.tail = endMark{in: t.in}
	t.reader = tar.NewReader(&t.tail)
}

func (t *tarArchive) next() (entry, error) {
	for {
		h, err := t.reader.Next()
		switch {
		case err == nil, errors.Is(err, tar.ErrInsecurePath): // which is judged by its name
			first := !t.begun
			t.begun = true
			if h.Typeflag == tar.TypeXGlobalHeader {
				_, bundled := h.PAXRecords[bundle.Record]
				return entry{skipped: true, bundle: bundled && first}, nil
			}
			return t.entry(h), nil
		case !atEnd(err):
			return entry{}, t.rename(err)
		case t.tail.zeros < tarBlock:
			return entry{}, t.budget.fail(t.level, CodeTruncated, "tar", nil, "the tar archive has no end mark; it may have been cut off")
		}
		if again, err := t.another(); !again {
			return entry{}, err
		}
		t.restart()
	}
}

// another passes over zeros behind the end and reports whether another archive follows; if not, the error is io.EOF unless
// something else follows.
func (t *tarArchive) another() (bool, error) {
	for {
		// An archive begins at a block's beginning, and with a name.
		head, err := t.in.Peek(tarBlock)
		if len(bytes.Trim(head, "\x00")) > 0 {
			if isTar(head) {
				return true, nil
			}
			return false, t.budget.fail(t.level, CodeCorrupt, "tar", nil, "what follows the end of the tar archive is none")
		}
		if _, discard := t.in.Discard(len(head)); discard != nil {
			err = discard
		}
		if err != nil {
			if !atEnd(err) {
				err = t.rename(err)
			}
			return false, err
		}
	}
}

func (t *tarArchive) entry(h *tar.Header) entry {
	e := entry{name: h.Name, size: h.Size, reader: t}
	sparse := h.Typeflag == tar.TypeGNUSparse
	for record := range h.PAXRecords {
		sparse = sparse || strings.HasPrefix(record, "GNU.sparse.")
	}
	switch {
	case sparse:
		e.refuse(CodeUnsupportedEntry, "it is a sparse file, which is not read; make the archive without --sparse")
	case h.Typeflag == tar.TypeReg, h.Typeflag == tar.TypeCont:
	case h.Typeflag == tar.TypeDir:
		e.skipped = true
	case h.Typeflag == tar.TypeSymlink:
		e.refuse(CodeUnsafeEntry, fmt.Sprintf("it is a symbolic link to %q, and links are not followed", cutText(h.Linkname)))
	case h.Typeflag == tar.TypeLink:
		e.refuse(CodeUnsafeEntry, fmt.Sprintf("it is a hard link to %q, and links are not followed", cutText(h.Linkname)))
	case h.Typeflag == tar.TypeChar, h.Typeflag == tar.TypeBlock:
		e.refuse(CodeUnsafeEntry, "it is a device")
	case h.Typeflag == tar.TypeFifo:
		e.refuse(CodeUnsafeEntry, "it is a named pipe")
	default:
		e.refuse(CodeUnsupportedEntry, fmt.Sprintf("it is an entry of type %q, which is not known", h.Typeflag))
	}
	return e
}

// Read reads from the entry at hand.
func (t *tarArchive) Read(p []byte) (int, error) {
	n, err := t.reader.Read(p)
	if err != nil && !atEnd(err) {
		err = t.rename(err)
	}
	return n, err
}

func (t *tarArchive) rename(err error) error {
	var format *FormatError
	switch {
	case t.budget.source.err != nil:
		return t.budget.source.err
	case errors.As(err, &format):
		return format
	case errors.Is(err, io.ErrUnexpectedEOF):
		return t.budget.fail(t.level, CodeTruncated, "tar", err, "the tar archive ends early")
	}
	return t.budget.fail(t.level, CodeCorrupt, "tar", err, "the tar archive is damaged: %v", err)
}

func (t *tarArchive) close() error { return nil }

// endMark counts the zeros that were read last, of which an archive has two blocks at its end. Without them it may have
// been cut off between two entries.
type endMark struct {
	in    io.Reader
	zeros int64
}

func (m *endMark) Read(p []byte) (int, error) {
	n, err := m.in.Read(p)
	last := n
	for last > 0 && p[last-1] == 0 {
		last--
	}
	if last > 0 {
		m.zeros = 0
	}
	m.zeros += int64(n - last)
	return n, err
}

// isTar reports whether a file begins as a tar archive does: with an entry's header, which has a sum over itself, or, if
// it is empty, with its end mark.
func isTar(head []byte) bool {
	if len(head) < tarBlock {
		return false
	}
	head = head[:tarBlock]
	if string(head[257:262]) == "ustar" {
		return true
	}
	if len(bytes.Trim(head, "\x00")) == 0 {
		return true
	}
	// Of before there was a mark. Some summed signed bytes; their names are mostly ASCII, where that is the same.
	want, sum := int64(0), int64(0)
	digits := bytes.Trim(head[148:156], " \x00")
	if len(digits) == 0 {
		return false
	}
	for _, c := range digits {
		if c < '0' || c > '7' {
			return false
		}
		want = want<<3 | int64(c-'0')
	}
	for i, c := range head {
		if 148 <= i && i < 156 {
			c = ' '
		}
		sum += int64(c)
	}
	return sum == want
}

// cutText bounds a text for a message.
func cutText(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
