package process

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/tallyman-dev/tallyman/worker"
)

// tail keeps the end of what is written to it. It is safe for concurrent use.
type tail struct {
	mu    sync.Mutex
	end   []byte // the last bytes, at least worker.MaxCrashOutput of them
	since int    // bytes written since the mark
}

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since += len(p)
	if len(t.end)+len(p) > 2*worker.MaxCrashOutput {
		if len(p) >= worker.MaxCrashOutput {
			t.end = t.end[:0]
		} else {
			t.end = append(t.end[:0], t.end[max(len(t.end)-worker.MaxCrashOutput, 0):]...)
		}
	}
	t.end = append(t.end, p[max(len(p)-worker.MaxCrashOutput, 0):]...)
	return len(p), nil
}

// mark notes that what comes from now on is about something else.
func (t *tail) mark() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since = 0
}

// text returns the last bytes as valid text, and how much of it came since the mark.
func (t *tail) text() (all, since string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	end := t.end[max(len(t.end)-worker.MaxCrashOutput, 0):]
	return valid(end), valid(end[max(len(end)-t.since, 0):])
}

func valid(b []byte) string { return strings.ToValidUTF8(string(b), "?") }

// maxErrorLine is how long a line of standard error may be before it is broken, in bytes.
const maxErrorLine = 8 << 10

// copyLines copies r to both, until it ends; to lines as whole lines, each in one Write that begins with the number of the
// process. What cannot be written there is nobody's concern. lines may be nil.
func copyLines(r io.Reader, all io.Writer, lines io.Writer, pid int) {
	buffer := make([]byte, maxErrorLine)
	var line []byte
	flush := func() {
		if lines != nil && len(line) > 0 {
			_, _ = fmt.Fprintf(lines, "[%d] %s\n", pid, valid(line))
		}
		line = line[:0]
	}
	for {
		n, err := r.Read(buffer)
		_, _ = all.Write(buffer[:n])
		for part := buffer[:n]; lines != nil && len(part) > 0; {
			text, rest, whole := bytes.Cut(part, []byte("\n"))
			if len(line)+len(text) > maxErrorLine {
				flush()
			}
			line = append(line, text...)
			if whole {
				flush()
			}
			part = rest
		}
		if err != nil {
			flush()
			return
		}
	}
}
