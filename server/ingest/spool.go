package ingest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// spool is a temporary file with what was read of a stream. Where the system can, the file has no name from its beginning,
// so that it is gone with the process, too.
type spool struct {
	file   *os.File
	size   int64
	budget *budget
	failed error // why it could not be read
}

// newSpool copies a stream, as long as the budget allows.
func newSpool(in io.Reader, level int, b *budget) (*spool, error) {
	file, err := os.CreateTemp(b.config.SpoolDir, "tallyman-zip-*")
	if err != nil {
		return nil, fmt.Errorf("make temporary file for a ZIP archive: %w", err)
	}
	s := &spool{file: file, budget: b}
	_ = os.Remove(file.Name()) // where it cannot be removed while it is open, close does it
	if err := s.fill(in, level); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *spool) fill(in io.Reader, level int) error {
	b := s.budget
	buffer := make([]byte, ioBuffer)
	for {
		n, err := in.Read(buffer)
		s.size += int64(n)
		if b.spooled += int64(n); b.spooled > b.config.MaxSpool {
			return b.fail(level, CodeSpoolFull, "ZIP", nil, "ZIP archives must be written to a temporary file, which has more than "+
				"%d bytes then, the limit %s; a tar archive needs none", b.config.MaxSpool, SettingMaxSpool)
		}
		if _, err := s.file.Write(buffer[:n]); err != nil {
			return fmt.Errorf("write temporary file for a ZIP archive: %w", err)
		}
		if err != nil {
			if atEnd(err) {
				err = nil
			}
			return err
		}
	}
}

// ReadAt implements io.ReaderAt.
func (s *spool) ReadAt(p []byte, offset int64) (int, error) {
	n, err := s.file.ReadAt(p, offset)
	if err != nil && !atEnd(err) {
		s.failed = fmt.Errorf("read temporary file of a ZIP archive: %w", err)
	}
	return n, err
}

// close removes the file.
func (s *spool) close() error {
	s.budget.spooled -= s.size
	err := s.file.Close()
	if gone := os.Remove(s.file.Name()); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if err != nil {
		return fmt.Errorf("remove temporary file of a ZIP archive: %w", err)
	}
	return nil
}
