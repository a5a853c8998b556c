package ingest

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// counted is an endless source of items of ten bytes, and counts what was read of it. It fails behind the failing-th byte,
// if that is not 0.
type counted struct {
	read    atomic.Int64
	failing int64
}

var errCounted = errors.New("the source failed")

func (c *counted) Read(p []byte) (int, error) {
	const it = `{"a":"b"}` + "\n"
	p = p[:min(len(p), 50)]
	n := 0
	for n+len(it) <= len(p) {
		if c.failing > 0 && c.read.Load()+int64(n) >= c.failing {
			c.read.Add(int64(n))
			return n, errCounted
		}
		n += copy(p[n:], it)
	}
	c.read.Add(int64(n))
	return n, nil
}

func (*counted) Close() error { return nil }

// TestRunReadsAhead has a sink that does not come to an end: the next group is collected meanwhile, and nothing behind it
// but the batches that are being packed.
func TestRunReadsAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		src := &counted{}
		entered, leave := make(chan *Group), make(chan struct{})
		done := make(chan error)
		go func() {
			// Batches of 100 bytes, in groups of ten.
			_, err := Run(ctx, src, Config{Cut: CutConfig{Items: 10}, FlushBytes: 900},
				commitFunc(func(_ context.Context, g *Group) error { entered <- g; <-leave; return nil }))
			done <- err
		}()
		for committed := int64(1); committed < 5; committed++ {
			g := <-entered
			synctest.Wait()
			if items := committed * 100; g.Position.Item != items {
				t.Errorf("group %d ends behind item %d, want %d", committed, g.Position.Item, items)
			}
			// Without their line ends the items are of nine bytes each.
			read := src.read.Load() - g.Position.Offset
			if least, most := int64(1000), int64(1000+100*(3*maxPackers+3)); read < least || read > most {
				t.Errorf("during commit %d %d bytes behind the group were read, want %d to %d", committed, read, least, most)
			}
			leave <- struct{}{}
		}
		<-entered
		cancel()
		leave <- struct{}{}
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// TestRunFailsInOrder expects, of what fails at the same time, that of which the items come first.
func TestRunFailsInOrder(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	for name, test := range map[string]struct {
		fails     int // commit
		sink, src bool
		items     int64
	}{
		"source behind commits":       {fails: -1, src: true, items: 490},
		"commit before the source":    {fails: 2, sink: true, items: 200},
		"last commit, and the source": {fails: 4, sink: true, src: true, items: 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				commits := 0
				sum, err := Run(t.Context(), &counted{failing: 5000}, Config{Cut: CutConfig{Items: 10}, FlushBytes: 900},
					commitFunc(func(context.Context, *Group) error {
						<-time.After(time.Second) // until all else waits
						commits++
						if commits == test.fails+1 {
							return full
						}
						return nil
					}))
				if errors.Is(err, full) != test.sink || errors.Is(err, errCounted) != test.src || sum.Items != test.items {
					t.Errorf("got %v behind item %d, want the sink's %t, the source's %t, behind item %d",
						err, sum.Items, test.sink, test.src, test.items)
				}
			})
		})
	}
}

// TestRunPacksLargeBatches has batches that are packed where they are cut among others.
func TestRunPacksLargeBatches(t *testing.T) {
	t.Parallel()
	large := `{"a":"` + strings.Repeat("x", packAtOnce) + `"}` + "\n"
	small := `{"a":"b"}` + "\n"
	sink := &memory{}
	_, err := Run(t.Context(), io.NopCloser(strings.NewReader(small+large+small+small+large+large+small)),
		Config{Cut: CutConfig{Items: 1}}, sink)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range sink.batches() {
		if b.FirstItem != int64(i)+1 || len(b.Frame) == 0 {
			t.Errorf("batch %d begins with item %d and has a frame of %d bytes", i, b.FirstItem, len(b.Frame))
		}
	}
}
