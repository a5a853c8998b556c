package display

import (
	"io"
	"os"
	"sync"

	"github.com/vbauerster/cupwriter"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// barSteps is into how many steps a bar is divided.
const barSteps = 10_000

// barWidth is the width of a bar without what stands beside it, in characters.
const barWidth = 30

// bars shows a bar a job.
type bars struct {
	w       io.Writer
	options []mpb.ContainerOption // besides

	mu        sync.Mutex
	container *mpb.Progress // nil while there are none
	jobs      map[int64]*bar
}

var _ Progress = (*bars)(nil)

type bar struct {
	bar *mpb.Bar

	mu   sync.Mutex // the container asks from its own goroutine
	job  *tallymanv1.Job
	text string // that fits behind the name and the bar
}

func (b *bar) show(job *tallymanv1.Job) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.job = job
}

// name is asked first, when the whole width of the terminal is there to be filled.
func (b *bar) name(s decor.Statistics) (name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name, b.text = layout(b.job, s.AvailableWidth)
	return name
}

func (b *bar) said(decor.Statistics) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text
}

// Write writes above the bars.
func (b *bars) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.container == nil {
		return b.w.Write(text)
	}
	return b.container.Write(text)
}

// screen returns what bars are drawn with on w.
func screen(w io.Writer) mpb.ConsoleWriter {
	s := cupwriter.New(fromMargin{w}, false)
	if file, ok := w.(*os.File); ok {
		s.SetTermFd(int(file.Fd()))
	}
	return s
}

// fromMargin goes back to the beginning of the line before each frame, which moves the cursor up only: the terminal may
// have echoed what somebody typed, such as ^C.
type fromMargin struct{ w io.Writer }

// Write implements io.Writer.
func (m fromMargin) Write(frame []byte) (int, error) {
	if _, err := m.w.Write(append([]byte{'\r'}, frame...)); err != nil {
		return 0, err
	}
	return len(frame), nil
}

// Update moves a job's bar.
func (b *bars) Update(job *tallymanv1.Job) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.container == nil {
		b.container = mpb.New(append([]mpb.ContainerOption{mpb.WithConsoleWriter(screen(b.w)), mpb.WithAutoRefresh()}, b.options...)...)
		b.jobs = make(map[int64]*bar)
	}
	shown := b.jobs[job.GetJobId()]
	if shown == nil {
		shown = b.add(job)
		b.jobs[job.GetJobId()] = shown
	}
	shown.show(job)
	if client.Ended(job.GetState()) {
		shown.bar.SetCurrent(barSteps) // also completes it
		return
	}
	// An estimate may have been too high; a bar never goes back.
	at := max(shown.bar.Current(), int64(fraction(job)*barSteps))
	shown.bar.SetCurrent(min(at, barSteps-1))
}

func (b *bars) add(job *tallymanv1.Job) *bar {
	shown := &bar{job: job}
	shown.bar = b.container.New(barSteps,
		mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]"),
		mpb.BarWidth(barWidth),
		mpb.PrependDecorators(decor.Any(shown.name)),
		mpb.AppendDecorators(decor.Percentage(decor.WC{W: percentWidth - 1}), decor.Any(shown.said)))
	return shown
}

// Close leaves the bars as they are.
func (b *bars) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.container == nil {
		return
	}
	for _, shown := range b.jobs {
		shown.bar.Abort(false) // nothing happens to those that are complete
	}
	b.container.Wait()
	b.container, b.jobs = nil, nil
}
