package client

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
)

// source hands out the bytes of an upload in chunks, again where needed. seek and next are called by one goroutine,
// release by any.
type source interface {
	// seek makes the next chunk start at an offset from the beginning of the upload.
	seek(offset int64) error
	// digest returns the SHA-256 of the first n bytes, and makes the next chunk start behind them. It is called before
	// anything else was read. io.EOF when there are fewer.
	digest(n int64) ([]byte, error)
	// next returns the next chunk, which nobody writes to any more, or io.EOF, perhaps with the last one.
	next() ([]byte, error)
	// release says that what precedes an offset will not be asked for again.
	release(offset int64)
}

// sourceError marks errors that are not the coordinator's.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// newSource returns a source and the number of bytes in it, 0 when unknown.
func newSource(r io.Reader, chunk int, keep int64) (source, int64, error) {
	if seeker, ok := r.(io.ReadSeeker); ok {
		// A pipe is an *os.File, too, and fails here.
		if begin, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			end, err := seeker.Seek(0, io.SeekEnd)
			if err != nil {
				return nil, 0, fmt.Errorf("find the size: %w", err)
			}
			return &seekSource{r: seeker, begin: begin, buffer: make([]byte, chunk)}, end - begin, nil
		}
	}
	return &keptSource{r: r, buffer: make([]byte, chunk), keep: keep}, 0, nil
}

// seekSource reads again what is asked for again.
type seekSource struct {
	r      io.ReadSeeker
	begin  int64 // where the upload begins in r
	buffer []byte
}

func (s *seekSource) seek(offset int64) error {
	if _, err := s.r.Seek(s.begin+offset, io.SeekStart); err != nil {
		return fmt.Errorf("go to byte %d: %w", offset, err)
	}
	return nil
}

func (s *seekSource) digest(n int64) ([]byte, error) {
	if err := s.seek(0); err != nil {
		return nil, err
	}
	return digest(s.r, n)
}

func (s *seekSource) next() ([]byte, error) { return read(s.r, s.buffer) }

func (s *seekSource) release(int64) {}

// read returns what one Read into the buffer yields, so that a slow source's bytes go out as they come.
func read(r io.Reader, buffer []byte) ([]byte, error) {
	for range maxEmptyReads {
		n, err := r.Read(buffer)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read: %w", err)
		}
		if n > 0 || err != nil {
			// Its own memory for every chunk, no more than it needs: the message may be looked at after it was sent.
			return bytes.Clone(buffer[:n]), err
		}
	}
	return nil, fmt.Errorf("read: %w", io.ErrNoProgress)
}

const maxEmptyReads = 100

// keptSource keeps what was read and not yet released, up to a bound.
type keptSource struct {
	r      io.Reader
	buffer []byte
	keep   int64

	at  int64 // where the next chunk starts
	end int64 // bytes read
	eof bool

	mu    sync.Mutex
	begin int64    // where the first kept chunk starts
	kept  [][]byte // from begin to end without a gap
}

func (s *keptSource) seek(offset int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if offset < s.begin {
		how := "send it again from its start under the same upload_id, or from a file"
		if offset == 0 {
			how = "only plain JSON Lines are resumed in the middle: send it as that, or from a file"
		}
		return fmt.Errorf("resume from byte %d: the source cannot be read again, and only what follows byte %d was kept "+
			"(KeepBytes is %d); %s", offset, s.begin, s.keep, how)
	}
	if offset > s.end {
		// A resumed upload of another call: what is committed is skipped once more.
		if _, err := io.CopyN(io.Discard, s.r, offset-s.end); err != nil {
			return fmt.Errorf("skip to byte %d, where the upload was interrupted: %w", offset, err)
		}
		s.begin, s.end, s.kept = offset, offset, nil
	}
	s.at = offset
	return nil
}

func (s *keptSource) digest(n int64) ([]byte, error) {
	sum, err := digest(s.r, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin, s.end, s.at = n, n, n
	return sum, err
}

// digest hashes the next n bytes of r.
func digest(r io.Reader, n int64) ([]byte, error) {
	h := sha256.New()
	if _, err := io.CopyN(h, r, n); err != nil {
		return nil, fmt.Errorf("compare with what was uploaded before: %w", err)
	}
	return h.Sum(nil), nil
}

func (s *keptSource) next() ([]byte, error) {
	if chunk, ok := s.again(); ok {
		return chunk, nil
	}
	if s.eof {
		return nil, io.EOF
	}
	chunk, err := read(s.r, s.buffer)
	s.eof = errors.Is(err, io.EOF)
	if len(chunk) > 0 {
		s.add(chunk)
	}
	return chunk, err
}

// again returns kept bytes from s.at on.
func (s *keptSource) again() ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at >= s.end {
		return nil, false
	}
	start := s.begin
	for _, chunk := range s.kept {
		if end := start + int64(len(chunk)); s.at < end {
			chunk = chunk[s.at-start:]
			s.at = end
			return chunk, true
		}
		start += int64(len(chunk))
	}
	return nil, false
}

func (s *keptSource) add(chunk []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, chunk)
	s.end += int64(len(chunk))
	s.at = s.end
	for s.end-s.begin > s.keep && len(s.kept) > 0 {
		s.drop()
	}
}

func (s *keptSource) release(offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.kept) > 0 && s.begin+int64(len(s.kept[0])) <= offset {
		s.drop()
	}
}

func (s *keptSource) drop() {
	s.begin += int64(len(s.kept[0]))
	s.kept[0] = nil
	s.kept = s.kept[1:]
}
