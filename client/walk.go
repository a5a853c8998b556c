package client

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tallyman-dev/tallyman/internal/bundle"
)

// member is one entry of the archive that Files makes.
type member struct {
	path string
	name string // in the archive
	info fs.FileInfo
}

func (m *member) size() int64 {
	if m.info.Mode().IsRegular() {
		return m.info.Size()
	}
	return 0
}

// readable opens the file and closes it.
func (m *member) readable() error {
	if !m.info.Mode().IsRegular() {
		return nil
	}
	file, err := os.Open(m.path)
	if err == nil {
		err = file.Close()
	}
	return err
}

// open opens the file that was looked at. It is read up to its size then, so that one that grows meanwhile does not harm.
func (m *member) open() (*os.File, error) {
	file, err := os.Open(m.path)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() < m.info.Size() {
		return nil, errors.Join(fmt.Errorf("%s changed while it was sent", m.path), err, file.Close())
	}
	return file, nil
}

// header returns what precedes the file in the archive. Nothing in it but name, size and kind depends on the file.
func (m *member) header() ([]byte, error) {
	h := &tar.Header{Name: m.name, Size: m.size(), Mode: 0o644, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	switch mode := m.info.Mode(); {
	case mode.IsRegular():
	case mode&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		to, err := os.Readlink(m.path)
		if err != nil {
			return nil, err
		}
		h.Linkname = to
	case mode&fs.ModeDevice != 0:
		h.Typeflag = tar.TypeChar
	default:
		h.Typeflag = tar.TypeFifo
	}
	return headerBytes(h)
}

func headerBytes(h *tar.Header) ([]byte, error) {
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		return nil, fmt.Errorf("name %s in an archive: %w", h.Name, err)
	}
	b.Write(zeros[:padding(int64(b.Len()))]) // behind a global header
	return b.Bytes(), nil
}

// globalHeader begins the archive.
func globalHeader() []byte {
	head, err := headerBytes(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{bundle.Record: bundle.Value}})
	if err != nil {
		panic(err) // it is always the same
	}
	return head
}

const tarBlock = 512

var (
	zeros        = make([]byte, tarBlock)
	endOfArchive = make([]byte, 2*tarBlock)
)

// padding is how many bytes follow a file in the archive.
func padding(size int64) int64 { return -size & (tarBlock - 1) }

// walk goes through files and folders, always in the same order. It holds the names in the folders around the file at
// hand.
type walk struct {
	config FilesConfig
	stack  []member // what comes, the next one last; without info until its turn
	last   *member
	named  int // how many of the stack were named by the caller
}

func newWalk(config FilesConfig, names []string) walk {
	w := walk{config: config, named: len(names)}
	for i := len(names) - 1; i >= 0; i-- {
		w.stack = append(w.stack, member{path: config.Paths[i], name: names[i]})
	}
	return w
}

// next returns the next entry that is no folder; io.EOF when there is none. After another error it goes on.
func (w *walk) next() (*member, error) {
	for len(w.stack) > 0 {
		m := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		named := len(w.stack) < w.named
		var err error
		if named { // which is followed where it is a link
			w.named--
			m.info, err = os.Stat(m.path)
		} else {
			m.info, err = os.Lstat(m.path)
		}
		switch {
		case err != nil:
			return nil, err
		case !named && w.config.Skip != nil && w.config.Skip(m.path, m.info):
			continue
		case m.info.IsDir():
			if err := w.enter(m); err != nil {
				return nil, err
			}
			continue
		case named && !m.info.Mode().IsRegular():
			return nil, fmt.Errorf("%s is no file whose size is known; such a one can only be sent alone", m.path)
		}
		w.last = &m
		return w.last, nil
	}
	return nil, io.EOF
}

// enter puts what is in a folder before everything else.
func (w *walk) enter(folder member) error {
	entries, err := os.ReadDir(folder.path)
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(entries) {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		name := path.Join(folder.name, e.Name())
		w.stack = append(w.stack, member{path: filepath.Join(folder.path, e.Name()), name: name})
	}
	return nil
}
