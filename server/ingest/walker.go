package ingest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// walker walks through the files of an upload: the upload itself, or the entries of the archive that it is, through
// archives in archives, and through compression around each of them. It keeps a stack of open archives; a stream's level
// is how many of them are around it.
//
// Its errors of type *FormatError say at which level nothing more can be read; the next call goes on with what follows
// the entry that is this stream.
type walker struct {
	config *ReaderConfig
	budget budget
	begun  bool
	places []string // of the streams, by level
	stack  []open
	layers layers // of the file at hand
	spare  layers

	archived   bool // the upload is an archive
	compressed bool // the upload is compressed
}

// archive gives entries until io.EOF. It is the reader of the entry that it gave last.
type archive interface {
	next() (entry, error)
	close() error
}

// entry is one entry of an archive.
type entry struct {
	name    string
	size    int64
	reader  io.Reader
	refused *refusal
	skipped bool // without being an item
	bundle  bool // the entries of this archive go by their own names
}

func (e *entry) refuse(code, why string) {
	if e.refused == nil {
		e.refused = &refusal{code: code, message: "the entry is not read: " + why}
	}
}

// open is an archive that is open.
type open struct {
	archive
	prefix string // of the places of its entries
	layers layers // beneath it
}

// layers are what lies over a stream, to be used again when it is done with.
type layers struct {
	buffers []*bufio.Reader
	decoded []*decompressed
}

func newWalker(config *ReaderConfig, src *source) *walker {
	return &walker{config: config, budget: budget{config: config, source: src, base: bufio.NewReaderSize(src, ioBuffer)},
		places: []string{config.File}}
}

// place names the file at hand, or what stands in its place.
func (w *walker) place(level int) string { return w.places[min(level, len(w.places)-1)] }

// level is that of the file at hand.
func (w *walker) level() int { return len(w.stack) }

// next returns the next file; io.EOF when there is none.
func (w *walker) next() (io.Reader, error) {
	w.release(&w.layers)
	for {
		stream, err := w.stream()
		if err != nil {
			return nil, err
		}
		if stream == nil {
			continue
		}
		in, err := w.decompress(stream)
		if err != nil {
			return nil, err
		}
		head := peekHead(in)
		if !isTar(head) && !isZip(head) {
			if k, ok := sniffMagic(head); ok {
				return nil, w.budget.refuse(w.level(), k)
			}
			return in, nil
		}
		if err := w.enter(in, isTar(head)); err != nil {
			return nil, err
		}
	}
}

// stream returns the next stream: the upload, or an entry of the innermost archive. It is nil when it has left an archive,
// or passed over an entry.
func (w *walker) stream() (io.Reader, error) {
	if !w.begun {
		w.begun = true
		return w.budget.base, nil
	}
	level := w.level()
	if level == 0 {
		return nil, io.EOF
	}
	top := &w.stack[level-1]
	e, err := top.next()
	w.places = w.places[:level]
	if atEnd(err) {
		return nil, w.leave(level - 1)
	}
	if err != nil {
		return nil, err
	}
	if w.budget.entries++; w.budget.entries > w.config.MaxEntries {
		return nil, &FormatError{Code: CodeTooManyEntries, CompressedOffset: w.budget.at(), fatal: true, Message: fmt.Sprintf(
			"the archives of the upload have more than %d entries, the limit %s", w.config.MaxEntries, SettingMaxEntries)}
	}
	if e.bundle {
		top.prefix = ""
	}
	if e.skipped {
		return nil, nil
	}
	return w.admit(e, top.prefix)
}

// admit returns the reader of an entry that may be read, nil of one that is passed over.
func (w *walker) admit(e entry, prefix string) (io.Reader, error) {
	if problem := nameProblem(e.name); problem != "" {
		e.refuse(CodeUnsafeEntry, problem)
	} else if isJunk(e.name) {
		return nil, nil
	}
	place := prefix + readableName(e.name)
	if len(place) > maxPlace {
		e.refuse(CodeUnsafeEntry, fmt.Sprintf("its place is longer than %d bytes", maxPlace))
		place = readableName(place)
	}
	w.places = append(w.places, place)
	if e.refused != nil {
		return nil, &FormatError{Code: e.refused.code, CompressedOffset: w.budget.at(), level: w.level(), Message: e.refused.message}
	}
	return e.reader, nil
}

// decompress detects, by content, the layers of compression that a stream has, and returns what is inside. It waits for
// no more bytes than it needs.
func (w *walker) decompress(stream io.Reader) (*bufio.Reader, error) {
	level := w.level()
	in, ok := stream.(*bufio.Reader)
	if !ok {
		in = w.buffer(stream)
	}
	for depth := 0; ; depth++ {
		kind, err := peekCompression(in)
		if err != nil || kind == plain {
			return in, err
		}
		w.compressed = w.compressed || level == 0
		if depth == w.config.MaxDepth {
			return nil, w.budget.fail(level, CodeCompressionDepth, string(kind), nil,
				"compressed more than %d times over, the limit %s", w.config.MaxDepth, SettingMaxDepth)
		}
		d := w.decoder(kind)
		d.level = level
		if err := d.open(in); err != nil {
			return nil, d.rename(err)
		}
		in = w.buffer(d)
	}
}

// enter opens the archive in a stream, over which the layers lie.
func (w *walker) enter(in *bufio.Reader, isTar bool) error {
	level := w.level()
	if level == w.config.MaxArchives {
		return w.budget.fail(level, CodeArchiveDepth, "an archive", nil, "there are more than %d archives one in another, the limit %s",
			w.config.MaxArchives, SettingMaxArchives)
	}
	w.archived = true
	o := open{prefix: w.place(level) + "!"}
	if isTar {
		o.archive = newTar(in, level, &w.budget)
	} else {
		z, err := newZip(in, level, &w.budget)
		if err != nil {
			return err
		}
		o.archive = z
	}
	o.layers, w.layers = w.layers, layers{}
	w.stack = append(w.stack, o)
	return nil
}

// leave closes archives until only level of them are open.
func (w *walker) leave(level int) error {
	w.release(&w.layers)
	var err error
	for len(w.stack) > level {
		top := &w.stack[len(w.stack)-1]
		err = errors.Join(err, top.close())
		w.release(&top.layers)
		w.stack[len(w.stack)-1] = open{}
		w.stack = w.stack[:len(w.stack)-1]
	}
	return err
}

// close gives up what is open.
func (w *walker) close() error { return w.leave(0) }

// buffer returns a buffer over a stream.
func (w *walker) buffer(in io.Reader) *bufio.Reader {
	var b *bufio.Reader
	if n := len(w.spare.buffers); n > 0 {
		b = w.spare.buffers[n-1]
		w.spare.buffers = w.spare.buffers[:n-1]
		b.Reset(in)
	} else {
		b = bufio.NewReaderSize(in, ioBuffer)
	}
	w.layers.buffers = append(w.layers.buffers, b)
	return b
}

// decoder returns one for a kind of compression, not yet open.
func (w *walker) decoder(kind compression) *decompressed {
	d := new(decompressed)
	for i, spare := range w.spare.decoded {
		if spare.kind == kind {
			d.gzip, d.zstd = spare.gzip, spare.zstd
			w.spare.decoded = append(w.spare.decoded[:i], w.spare.decoded[i+1:]...)
			break
		}
	}
	d.kind, d.budget = kind, &w.budget
	w.layers.decoded = append(w.layers.decoded, d)
	return d
}

// release takes layers back that nobody reads through any more.
func (w *walker) release(l *layers) {
	for _, b := range l.buffers {
		b.Reset(nil)
	}
	w.spare.buffers = append(w.spare.buffers, l.buffers...)
	w.spare.decoded = append(w.spare.decoded, l.decoded...)
	*l = layers{buffers: l.buffers[:0:0], decoded: l.decoded[:0:0]}
}

// isZip reports whether a file begins as a ZIP archive does.
func isZip(head []byte) bool {
	return len(head) >= 4 && (string(head[:4]) == "PK\x03\x04" || string(head[:4]) == "PK\x05\x06")
}
