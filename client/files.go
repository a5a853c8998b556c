package client

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// FilesConfig says which files are sent as one upload.
type FilesConfig struct {
	// Paths are files and folders, in the order in which they are sent. A folder is sent with all that is in it, in the
	// order of the names, but for what has a name that begins with a dot.
	Paths []string
	// Skip, if not nil, is asked for each entry of a folder; what it answers true for is left out.
	Skip func(path string, info fs.FileInfo) bool
}

// Files is several files and folders as the source of one Upload. It makes a tar archive of them while it is read, whose
// bytes are always the same as long as the files are; it is an io.ReadSeeker, so that an upload of it can be resumed. What
// is found in it is said to be in dir/file.json, as it was named: a path that is absolute, or leads out of the working
// folder, is shortened to the last name in it.
//
// Links in folders are not followed. They, and what else is no file, are sent as such, and the coordinator rejects them by
// name, so that nothing is left out silently.
//
// It is not safe for concurrent use.
type Files struct {
	config FilesConfig
	names  []string // of the paths
	count  int64
	size   int64

	walk   walk
	ended  bool   // the archive's end was given out
	head   []byte // what comes before the file at hand, or in place of one
	file   *os.File
	left   int64 // of file
	at     int64
	wanted int64
}

// NewFiles looks at all files, and opens each, so that nothing is sent when one of them cannot be read. The error names
// every one that cannot.
func NewFiles(config FilesConfig) (*Files, error) {
	names, err := namesOf(config.Paths)
	if err != nil {
		return nil, fmt.Errorf("send files: %w", err)
	}
	f := &Files{config: config, names: names}
	if err := f.measure(); err != nil {
		return nil, fmt.Errorf("send files: %w", err)
	}
	f.restart()
	return f, nil
}

// Count is how many files there are, and links and the like among them.
func (f *Files) Count() int64 { return f.count }

// measure counts the files and their bytes in the archive.
func (f *Files) measure() error {
	const most = 20 // problems named
	var problems []error
	f.restart()
	f.size = int64(len(f.head))
	for {
		m, err := f.walk.next()
		switch {
		case errors.Is(err, io.EOF):
			if f.count == 0 && len(problems) == 0 {
				return fmt.Errorf("there are no files in the folder %s", strings.Join(f.config.Paths, ", "))
			}
			f.size += int64(len(endOfArchive))
			return errors.Join(problems...)
		case err == nil:
			err = m.readable()
		}
		if err != nil {
			if problems = append(problems, err); len(problems) == most {
				return errors.Join(append(problems, errors.New("and perhaps more"))...)
			}
			continue
		}
		head, err := m.header()
		if err != nil {
			return err
		}
		f.count++
		f.size += int64(len(head)) + m.size() + padding(m.size())
	}
}

func (f *Files) restart() {
	f.walk = newWalk(f.config, f.names)
	f.head, f.left, f.at, f.ended = globalHeader(), 0, 0, false
}

// Read implements io.Reader. A file that became shorter since it was begun is an error.
func (f *Files) Read(p []byte) (int, error) {
	if err := f.goTo(); err != nil {
		return 0, err
	}
	for {
		switch {
		case len(f.head) > 0:
			n := copy(p, f.head)
			f.head = f.head[n:]
			return f.moved(n), nil
		case f.file != nil && f.left > 0:
			n, err := f.file.Read(p[:min(int64(len(p)), f.left)])
			f.left -= int64(n)
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("%s became shorter while it was read", f.file.Name())
			}
			if n > 0 || err != nil {
				return f.moved(n), err
			}
		default:
			if err := f.next(); err != nil {
				return 0, err
			}
		}
	}
}

func (f *Files) moved(n int) int {
	f.at += int64(n)
	f.wanted = f.at
	return n
}

// next goes on to the next file, or the end of the archive, and io.EOF behind that.
func (f *Files) next() error {
	if f.file != nil {
		if err := f.close(); err != nil {
			return err
		}
		if f.head = zeros[:padding(f.walk.last.size())]; len(f.head) > 0 {
			return nil
		}
	}
	if f.ended {
		return io.EOF
	}
	m, err := f.walk.next()
	if errors.Is(err, io.EOF) {
		f.ended, f.head = true, endOfArchive
		return nil
	}
	if err != nil {
		return err
	}
	if m.info.Mode().IsRegular() {
		if f.file, err = m.open(); err != nil {
			return err
		}
	}
	f.left = m.size()
	f.head, err = m.header()
	return err
}

// Seek implements io.Seeker. What is passed over is not read, but going back begins at the first file.
func (f *Files) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.wanted
	case io.SeekEnd:
		offset += f.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("go to byte %d of the files: it lies before their beginning", offset)
	}
	f.wanted = offset
	return offset, nil
}

// goTo moves to where Seek said.
func (f *Files) goTo() error {
	if f.wanted < f.at {
		if err := f.close(); err != nil {
			return err
		}
		f.restart()
	}
	for f.at < f.wanted {
		n := f.wanted - f.at
		switch {
		case len(f.head) > 0:
			n = min(n, int64(len(f.head)))
			f.head = f.head[n:]
		case f.file != nil && f.left > 0:
			n = min(n, f.left)
			if _, err := f.file.Seek(n, io.SeekCurrent); err != nil {
				return fmt.Errorf("pass over %s: %w", f.file.Name(), err)
			}
			f.left -= n
		default:
			if err := f.next(); err != nil {
				return err
			}
			n = 0
		}
		f.at += n
	}
	return nil
}

// Close closes the file at hand.
func (f *Files) Close() error { return f.close() }

func (f *Files) close() error {
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file, f.left = nil, 0
	if err := file.Close(); err != nil {
		return fmt.Errorf("close %s: %w", file.Name(), err)
	}
	return nil
}

// namesOf returns what the paths are called in the archive, and refuses paths that cannot be told apart there, or of which
// one is in another.
func namesOf(paths []string) ([]string, error) {
	names := make([]string, len(paths))
	byName, byPlace := map[string]string{}, map[string]string{}
	places := make([]string, len(paths))
	for i, path := range paths {
		place, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", path, err)
		}
		names[i] = filepath.ToSlash(filepath.Clean(path))
		if !filepath.IsLocal(path) {
			names[i] = filepath.Base(place)
		}
		if other, ok := byName[names[i]]; ok {
			return nil, fmt.Errorf("%s and %s would both be called %s: name them from a folder above both, or send them apart",
				other, path, names[i])
		}
		byName[names[i]], byPlace[place], places[i] = path, path, place
	}
	for i, place := range places {
		for above := filepath.Dir(place); ; above = filepath.Dir(above) {
			if other, ok := byPlace[above]; ok {
				return nil, fmt.Errorf("%s is in %s, which is sent as well", paths[i], other)
			}
			if above == filepath.Dir(above) {
				break
			}
		}
	}
	return names, nil
}
