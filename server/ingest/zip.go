package ingest

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// zipArchive gives the entries of a ZIP archive in the order of its directory, which stands at its end, so that the
// archive must be in a file.
type zipArchive struct {
	spool  *spool
	files  []*zip.File
	open   io.ReadCloser // the entry at hand
	level  int           // of the archive's stream; its entries' is the next
	budget *budget
}

var errDirectory = errors.New("the directory is too long")

// newZip copies an archive into a temporary file and reads its directory.
func newZip(in io.Reader, level int, b *budget) (*zipArchive, error) {
	file, err := newSpool(in, level, b)
	if err != nil {
		return nil, err
	}
	z := &zipArchive{spool: file, level: level, budget: b}
	// The number of entries may be a lie, for which memory would be taken.
	if n := promisedEntries(file); n > uint64(b.config.MaxDirectory/minDirectoryEntry) {
		return nil, errors.Join(tooLong(level, b), file.close())
	}
	directory := &directoryAt{ReaderAt: file, left: b.config.MaxDirectory + endOfDirectory}
	r, err := zip.NewReader(directory, file.size)
	switch {
	case file.failed != nil:
		err = file.failed
	case directory.left < 0:
		err = tooLong(level, b)
	case err == nil, errors.Is(err, zip.ErrInsecurePath): // each name is judged by itself
		err = z.document(r)
		directory.read = true
		z.files = r.File
	default:
		err = b.fail(level, CodeCorrupt, "ZIP", err, "the ZIP archive is damaged, or cut off: %v", err)
	}
	if err != nil {
		return nil, errors.Join(err, file.close())
	}
	return z, nil
}

func tooLong(level int, b *budget) error {
	return b.fail(level, CodeTooManyEntries, "ZIP", nil, "the directory of the ZIP archive has more than %d bytes, the limit %s; "+
		"a tar archive has no such limit", b.config.MaxDirectory, SettingMaxDirectory)
}

// document refuses files of other types that are ZIP archives inside.
func (z *zipArchive) document(r *zip.Reader) error {
	for i, f := range r.File {
		var name string
		switch {
		case f.Name == "[Content_Types].xml":
			name = "a Microsoft Office document"
		case i == 0 && f.Name == "mimetype":
			name = "an OpenDocument or EPUB document"
		case i < 2 && f.Name == "META-INF/MANIFEST.MF":
			name = "a Java archive"
		default:
			continue
		}
		return z.budget.refuse(z.level, kind{name: name})
	}
	return nil
}

// directoryAt bounds what is read until the directory is read.
type directoryAt struct {
	io.ReaderAt
	left int64 // below 0 when it was too much
	read bool
}

// endOfDirectory is how much is read at a ZIP archive's end to find the directory, in bytes: the end record with the
// longest comment, and what is read twice of it.
const endOfDirectory = 128 << 10

func (d *directoryAt) ReadAt(p []byte, offset int64) (int, error) {
	if !d.read {
		if d.left -= int64(len(p)); d.left < 0 {
			return 0, errDirectory
		}
	}
	return d.ReaderAt.ReadAt(p, offset)
}

// minDirectoryEntry is the least that an entry takes in a directory, in bytes.
const minDirectoryEntry = 46

// promisedEntries returns how many entries the end of a ZIP archive says that there are; 0 where it says nothing.
func promisedEntries(s *spool) uint64 {
	const endRecord, locator, end64Record = 22, 20, 56
	tail := make([]byte, min(s.size, endOfDirectory/2+endRecord+locator))
	if _, err := s.ReadAt(tail, s.size-int64(len(tail))); err != nil && !atEnd(err) {
		return 0
	}
	at := bytes.LastIndex(tail, []byte("PK\x05\x06"))
	if at < 0 || at+endRecord > len(tail) {
		return 0
	}
	n := uint64(binary.LittleEndian.Uint16(tail[at+10:]))
	if at < locator || string(tail[at-locator:at-locator+4]) != "PK\x06\x07" {
		return n
	}
	record := make([]byte, end64Record)
	if _, err := s.ReadAt(record, int64(binary.LittleEndian.Uint64(tail[at-locator+8:])&(1<<62-1))); err != nil {
		return n
	}
	return max(n, binary.LittleEndian.Uint64(record[32:]))
}

func (z *zipArchive) next() (entry, error) {
	if err := z.closeEntry(); err != nil {
		return entry{}, err
	}
	if len(z.files) == 0 {
		return entry{}, io.EOF
	}
	f := z.files[0]
	z.files[0] = nil
	z.files = z.files[1:]
	e := entry{name: f.Name, size: int64(min(f.UncompressedSize64, 1<<62)), reader: z}
	const encrypted, stored, deflated = 0x1, 0, 8
	switch mode := f.Mode(); {
	case mode.IsDir():
		e.skipped = true
	case mode&fs.ModeSymlink != 0:
		e.refuse(CodeUnsafeEntry, "it is a symbolic link, and links are not followed")
	case mode&fs.ModeType != 0:
		e.refuse(CodeUnsafeEntry, "it is a device or a named pipe")
	case f.Flags&encrypted != 0:
		e.refuse(CodeEncrypted, "it is encrypted; make the archive without a password")
	case f.Method != stored && f.Method != deflated:
		e.refuse(CodeUnsupportedEntry, fmt.Sprintf("it is compressed by method %d of ZIP, and only Deflate is read", f.Method))
	case e.refused != nil || isJunk(f.Name) || nameProblem(f.Name) != "": // which is not opened
	default:
		r, err := f.Open()
		if err != nil {
			e.refuse(CodeCorrupt, fmt.Sprintf("it cannot be found in the ZIP archive: %v", err))
		}
		z.open = r
	}
	return e, nil
}

// Read reads from the entry at hand.
func (z *zipArchive) Read(p []byte) (int, error) {
	if z.open == nil {
		return 0, io.EOF
	}
	n, err := z.open.Read(p[:min(len(p), decompressorRead)])
	if over := z.budget.expand(n); over != nil {
		return 0, over
	}
	switch {
	case err == nil || atEnd(err):
	case z.spool.failed != nil:
		err = z.spool.failed
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = z.budget.fail(z.level+1, CodeTruncated, "ZIP", err, "the entry ends early")
	default:
		err = z.budget.fail(z.level+1, CodeCorrupt, "ZIP", err, "the entry is damaged: %v", err)
	}
	return n, err
}

func (z *zipArchive) closeEntry() error {
	if z.open == nil {
		return nil
	}
	open := z.open
	z.open = nil
	if err := open.Close(); err != nil {
		return fmt.Errorf("close entry of ZIP archive: %w", err)
	}
	return nil
}

func (z *zipArchive) close() error { return errors.Join(z.closeEntry(), z.spool.close()) }
