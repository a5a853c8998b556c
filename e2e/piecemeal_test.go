//go:build linux

package e2e

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/client"
)

// feed is a source that has what the test gave it so far, and whose reader waits for more.
type feed struct {
	mu      sync.Mutex
	changed *sync.Cond
	text    bytes.Buffer
	err     error // after the text
}

func newFeed() *feed {
	f := &feed{}
	f.changed = sync.NewCond(&f.mu)
	return f
}

func (f *feed) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.text.Len() == 0 && f.err == nil {
		f.changed.Wait()
	}
	if f.text.Len() == 0 {
		return 0, f.err
	}
	return f.text.Read(p)
}

// give adds to what can be read. It does not wait for the reader.
func (f *feed) give(content []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.text.Write(content)
	f.changed.Broadcast()
}

// end says that there is no more. The first time counts.
func (f *feed) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
	f.changed.Broadcast()
}

// piecemeal is an upload that goes on when the test says so.
type piecemeal struct {
	t       testing.TB
	job     int64
	content []byte // that has not been sent
	*feed
	ended chan error
}

// uploadPiecemeal begins an upload whose source cannot be read again, and returns when there is a job.
func (s *site) uploadPiecemeal(ctx context.Context, content []byte, u client.Upload) *piecemeal {
	s.t.Helper()
	p := &piecemeal{t: s.t, content: content, feed: newFeed(), ended: make(chan error, 1)}
	s.t.Cleanup(func() { p.end(context.Canceled) })
	begun := make(chan int64, 1)
	u.Project, u.FileName = project, "piecemeal.jsonl"
	u.Progress = func(u client.UploadProgress) {
		select {
		case begun <- u.JobID:
		default: // it is known already
		}
	}
	go func() {
		_, err := s.client.Upload(ctx, p.feed, u)
		p.ended <- err
	}()
	select {
	case p.job = <-begun:
	case err := <-p.ended:
		s.t.Fatalf("begin upload: %v", err)
	}
	return p
}

// send sends some more, and false if that was all; then the upload ends.
func (p *piecemeal) send(bytes int) bool {
	n := min(bytes, len(p.content))
	p.give(p.content[:n])
	p.content = p.content[n:]
	if len(p.content) == 0 {
		p.end(io.EOF)
	}
	return len(p.content) > 0
}

// finish sends the rest, and fails the test unless the upload is complete in time.
func (p *piecemeal) finish() {
	p.t.Helper()
	p.send(len(p.content))
	timer := time.NewTimer(jobTimeout)
	defer timer.Stop()
	select {
	case err := <-p.ended:
		if err != nil {
			p.t.Fatal(err)
		}
	case <-timer.C:
		p.t.Fatalf("the upload did not end within %v", jobTimeout)
	}
}
