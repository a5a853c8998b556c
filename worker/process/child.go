package process

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// child is a process that runs the command, with the group of those that it starts. Unless said otherwise it is for one
// goroutine at a time.
type child struct {
	parent   *parent
	cmd      *exec.Cmd
	ownPeak  int64 // memory of this process when it started the child
	key      string
	ready    bool // it has said so, or has answered
	answered bool // something

	stdin    *os.File // the ends of the pipes that are this process's
	stdout   *os.File
	problems *os.File // standard error

	lines   chan line // of standard output, in mode Stream; closed at its end
	trouble error     // of reading them; to be read once lines is closed
	output  output    // in mode Batch; to be read after ended
	orders  *orders   // of an isolated handler
	writes  chan []byte
	written chan writing // of each
	tail    tail

	running   sync.WaitGroup // the goroutines
	discarded chan struct{}  // closed when nobody wants its lines any more
	ended     chan struct{}  // closed when it has ended, and all that it wrote to standard error is in tail
	exit      exit           // to be read after that

	mu    sync.Mutex
	over  bool        // its number may be another process's
	cause *limitError // why it was killed; nil if it was not, or not for a limit
	most  int64       // memory that it was seen with
}

// line is one of standard output.
type line struct {
	text []byte
	more bool // there is more behind it
}

// writing is how a write to standard input ended.
type writing struct {
	bytes int
	err   error
}

// exit is how a process ended.
type exit struct {
	signal string
	code   int
	peak   int64
}

// exitTemporary is the exit code that means a passing problem: EX_TEMPFAIL of sysexits.h.
const exitTemporary = 75

// drainTimeout is for what a process has left in its pipes to be read. It matters only when one that it started has left
// its group and holds them open.
const drainTimeout = time.Second

func (c *child) run() {
	problems := make(chan struct{})
	c.running.Go(func() {
		defer close(problems)
		copyLines(c.problems, &c.tail, c.parent.config.Stderr, c.cmd.Process.Pid)
	})
	read := make(chan struct{})
	if c.parent.config.Mode == Batch {
		c.running.Go(func() {
			defer close(read)
			c.output.read(c.stdout, c.parent.config)
		})
	} else {
		close(read) // its lines wait for somebody
		c.running.Go(c.readLines)
		c.running.Go(c.write)
	}
	c.running.Go(func() {
		c.await()
		// Nobody but one that has left the group can write any more.
		deadline := time.Now().Add(drainTimeout)
		_ = errors.Join(c.stdout.SetReadDeadline(deadline), c.problems.SetReadDeadline(deadline))
		<-problems
		<-read
		close(c.ended)
	})
}

// await waits until the process has ended, and ends those that it started.
func (c *child) await() {
	known := awaitEnd(c.cmd.Process)
	if !known {
		_ = c.cmd.Wait()
	}
	c.mu.Lock()
	killGroup(c.cmd.Process)
	c.parent.forget(c)
	c.over = true
	c.mu.Unlock()
	if known {
		_ = c.cmd.Wait() // how it ended is in the state
	}
	c.exit.signal, c.exit.code = exitOf(c.cmd.ProcessState)
	c.mu.Lock()
	c.exit.peak = max(peakOf(c.cmd.ProcessState, c.ownPeak), c.most)
	c.mu.Unlock()
}

// readLines reads standard output until its end, one line ahead of who takes them: a process that writes without being
// asked is held up by its pipe.
func (c *child) readLines() {
	defer close(c.lines)
	r := bufio.NewReaderSize(c.stdout, 64<<10)
	var text []byte
	for {
		part, err := r.ReadSlice('\n')
		if int64(len(text)+len(part)) > c.parent.config.MaxAnswer {
			c.trouble = errLong
			return
		}
		text = append(text, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return // what is not a whole line is no answer
		}
		select {
		case c.lines <- line{text, r.Buffered() > 0}:
			text = nil
		case <-c.discarded:
			return
		}
	}
}

// write writes what comes to standard input, which it then closes.
func (c *child) write() {
	for data := range c.writes {
		n, err := c.stdin.Write(data)
		c.written <- writing{n, err}
	}
	_ = c.stdin.Close()
}

// kill ends the process and those it started at once; cause, if not nil, says for which limit. It may be called from any
// goroutine.
func (c *child) kill(cause *limitError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	if c.cause == nil {
		c.cause = cause
	}
	killGroup(c.cmd.Process)
}

// weighed notes what the process and those it started hold in memory, and returns it.
func (c *child) weighed(n int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = max(c.most, n)
	return n
}

// killedFor returns the limit for which the process was killed, nil if for none.
func (c *child) killedFor() *limitError {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// terminate asks the process and those it started to end.
func (c *child) terminate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		terminateGroup(c.cmd.Process)
	}
}

// endsWithin waits for the end for so long, and reports whether it came.
func (c *child) endsWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c.ended:
		return true
	case <-timer.C:
		return false
	}
}

// discard kills what is left of the process and frees what it took. It returns when all is over; nothing of the child
// may be used any more, but what ended allows.
func (c *child) discard() {
	c.kill(nil)
	<-c.ended
	close(c.discarded)
	_ = c.stdin.SetWriteDeadline(time.Unix(1, 0)) // of one that has left the group nobody waits for
	if c.parent.config.Mode == Stream {
		close(c.writes)
	}
	c.running.Wait()
	_ = errors.Join(c.stdin.Close(), c.stdout.Close(), c.problems.Close())
}

// stop ends a process that works on something, in two steps.
func (c *child) stop() {
	c.terminate()
	c.endsWithin(c.parent.config.StopTimeout)
	c.discard()
}

// dismiss ends a process that waits for its next item: the end of its input tells it.
func (c *child) dismiss() {
	_ = c.stdin.Close() // nobody writes
	if !c.endsWithin(c.parent.config.StopTimeout) {
		c.terminate()
		c.endsWithin(c.parent.config.StopTimeout)
	}
	c.discard()
}

// waits reports whether a process still waits for its next item: it has not ended, nor written without being asked.
func (c *child) waits() bool {
	if n, known := unread(c.stdout); known && n > 0 {
		return false
	}
	select {
	case <-c.ended:
		return false
	case <-c.lines:
		return false
	default:
		return true
	}
}

var (
	errEnded   = errors.New("standard output has ended")
	errLong    = errors.New("a line is too long")
	errUnasked = errors.New("there was a line before there was an item")
	errMore    = errors.New("there were several lines")
	errSlow    = errors.New("there was no line in time")
	errClosed  = errors.New("standard input is closed")
)

// closeTimeout is for a process to end once it has closed its standard input or output.
const closeTimeout = 2 * time.Second

// exchange gives the process an item and returns the line that it answers, within the limit if that is positive. It
// returns how much of the item was written, too. Its error is one of those above, or the cause of ctx; with errUnasked
// the line is returned if it is known.
func (c *child) exchange(ctx context.Context, item []byte, limit time.Duration) (answer []byte, sent int, err error) {
	if n, known := unread(c.stdout); known && n > 0 {
		return nil, 0, errUnasked
	}
	select {
	case l, ok := <-c.lines:
		if ok {
			return l.text, 0, errUnasked
		}
	default:
	}
	var expired <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		expired = timer.C
	}
	// One that does not flush what it writes looks like one that hangs, for minutes.
	var silent <-chan time.Time
	if !c.answered && !c.parent.told.Load() {
		ticker := time.NewTicker(c.parent.patience)
		defer ticker.Stop()
		silent = ticker.C
	}
	late := errSlow
	c.tail.mark()
	c.writes <- item
	written, lines := c.written, c.lines
	for written != nil || lines != nil {
		select {
		case w := <-written:
			written, sent = nil, w.bytes
			if w.err != nil && lines != nil {
				// It has ended, or has closed its input. What it answers nevertheless counts.
				timer := time.NewTimer(closeTimeout)
				defer timer.Stop()
				expired, late = timer.C, errClosed
			}
		case l, ok := <-lines:
			if !ok && c.trouble != nil {
				return nil, c.sent(written, sent), c.trouble
			}
			if !ok {
				return nil, c.sent(written, sent), errEnded
			}
			if answer, lines = l.text, nil; l.more {
				return nil, c.sent(written, sent), errMore
			}
		case <-silent:
			if left, known := unread(c.stdin); written == nil && (!known || left == 0) && c.parent.told.CompareAndSwap(false, true) {
				c.parent.config.Logger.Warn("a command has read its first item and not answered for a while; does it flush what it "+
					"writes, as python3 -u, flush=True, jq --unbuffered and stdbuf -oL do?", "pid", c.cmd.Process.Pid,
					"waited", c.parent.patience)
			}
		case <-expired:
			return nil, c.sent(written, sent), late
		case <-ctx.Done():
			return nil, c.sent(written, sent), context.Cause(ctx)
		}
	}
	c.answered = true
	return answer, sent, nil
}

// sent returns how much of an item was written, after breaking the writing off if it still goes on.
func (c *child) sent(going <-chan writing, sent int) int {
	if going == nil {
		return sent
	}
	_ = c.stdin.SetWriteDeadline(time.Unix(1, 0))
	return (<-going).bytes
}

// output is what a process wrote to standard output in mode Batch.
type output struct {
	data []byte
	long bool
}

func (o *output) read(r io.Reader, config Config) {
	if config.Output != Discard {
		o.data, _ = io.ReadAll(io.LimitReader(r, config.MaxOutput+1))
		if o.long = int64(len(o.data)) > config.MaxOutput; o.long {
			o.data = nil
		}
	}
	_, _ = io.Copy(io.Discard, r) // whatever ends it
}
