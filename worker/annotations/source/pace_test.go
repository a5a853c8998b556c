package source_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/worker/annotations/source"
)

// What passes is tried again until it has passed, and costs no id anything.
func TestWhatPassesIsTriedAgain(t *testing.T) {
	for name, r := range map[string]reply{
		"refused":             {err: syscall.ECONNREFUSED},
		"reset":               {err: syscall.ECONNRESET},
		"time-out":            {status: 408},
		"too early":           {status: 425},
		"too many":            {status: 429},
		"bad gateway":         {status: 502},
		"unavailable":         {status: 503, body: "Back soon"},
		"gateway time-out":    {status: 504},
		"a strange date":      {status: 503, header: http.Header{"Retry-After": {"soon"}}},
		"a date that is over": {status: 503, header: http.Header{"Retry-After": {"Fri, 31 Dec 1999 23:59:59 GMT"}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			failures := 5
			s := &service{answer: func(_ context.Context, ids []string) reply {
				if failures--; failures >= 0 {
					return r
				}
				return docs(ids...)
			}}
			var log bytes.Buffer
			opened := open(t, s, source.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			began := time.Now()
			wantDocuments(t, lookup(t, opened, "1"), "Text of 1.")
			if took := time.Since(began); took < time.Second || took > 4*time.Second {
				t.Errorf("%s: it took %v", name, took)
			}
			wantCalls(t, s, 6)
			for _, line := range []string{"document source does not answer", "document source answers again"} {
				if strings.Count(log.String(), line) != 1 {
					t.Errorf("%s: the log does not say once %q: %s", name, line, log.String())
				}
			}
		})
	}
}

// A source that is left alone for as long as it wants is asked by nobody meanwhile.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, header := range []string{"7", time.Now().Add(14 * time.Second).UTC().Format(http.TimeFormat)} {
			first := true
			s := &service{answer: func(_ context.Context, ids []string) reply {
				if first {
					first = false
					return reply{status: 429, header: http.Header{"Retry-After": {header}}}
				}
				return docs(ids...)
			}}
			opened := open(t, s, source.Config{})
			began := time.Now()
			done := make(chan struct{})
			go func() {
				defer close(done)
				lookup(t, opened, "1")
			}()
			synctest.Wait()
			wantDocuments(t, lookup(t, opened, "2"), "Text of 2.")
			<-done
			if took := time.Since(began); took < 5*time.Second || took > 7*time.Second {
				t.Errorf("Retry-After %s: asked again after %v", header, took)
			}
			wantCalls(t, s, 3)
		}
	})
}

// A source that wants to be left alone for longer than a batch can wait is given up, and not asked until then.
func TestLongRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		s := &service{answer: func(_ context.Context, ids []string) reply {
			if down {
				return reply{status: 503, header: http.Header{"Retry-After": {"3600"}}}
			}
			return docs(ids...)
		}}
		opened := open(t, s, source.Config{})
		for range 3 {
			_, err := opened.Lookup(t.Context(), []string{"1"})
			wantUnavailable(t, err, "left alone for 5m0s")
		}
		wantCalls(t, s, 1)
		down = false
		<-time.After(5 * time.Minute) // and no longer
		wantDocuments(t, lookup(t, opened, "1"), "Text of 1.")
	})
}

// An outage costs a Lookup its patience once; as long as it lasts others try once.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		s := &service{answer: func(_ context.Context, ids []string) reply {
			if down {
				return reply{err: errors.New("no route to host")}
			}
			return docs(ids...)
		}}
		var log bytes.Buffer
		opened := open(t, s, source.Config{
			URL: "https://me:secret@docs.example.org/ask?key=secret", Header: http.Header{"X-Key": {"secret"}},
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		began := time.Now()
		_, err := opened.Lookup(t.Context(), []string{"1"})
		wantUnavailable(t, err, "PubMed (https://docs.example.org/ask): no route to host")
		if took := time.Since(began); took < 30*time.Second || took > 31*time.Second {
			t.Errorf("it was patient for %v", took)
		}
		calls := len(s.called())
		if calls < 8 || calls > 20 {
			t.Errorf("%d calls while it was patient", calls)
		}
		for range 2 {
			began := time.Now()
			_, err := opened.Lookup(t.Context(), []string{"1"})
			wantUnavailable(t, err)
			if took := time.Since(began); took != 0 {
				t.Errorf("it was patient for %v although the source is known to be down", took)
			}
			<-time.After(20 * time.Second)
		}
		wantCalls(t, s, calls+2)
		down = false
		wantDocuments(t, lookup(t, opened, "1"), "Text of 1.")
		down = true
		began = time.Now()
		_, err = opened.Lookup(t.Context(), []string{"2"})
		wantUnavailable(t, err)
		if took := time.Since(began); took < 30*time.Second {
			t.Errorf("after it was back it was patient for %v only", took)
		}
		if text := log.String() + err.Error(); strings.Contains(text, "secret") {
			t.Errorf("a secret is told: %s", text)
		}
	})
}

// A source that is too slow for a list is asked for less.
func TestSlowSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{answer: func(ctx context.Context, ids []string) reply {
			select {
			case <-time.After(time.Duration(len(ids)) * time.Second):
				return docs(ids...)
			case <-ctx.Done():
				return reply{err: ctx.Err()}
			}
		}}
		opened := open(t, s, source.Config{Timeout: 20 * time.Second})
		var err error
		for tries := 0; ; tries++ {
			var got []source.Document
			if got, err = opened.Lookup(t.Context(), numbered(100)); err == nil {
				if got[99].Text != "Text of 100." {
					t.Errorf("document 100: %v", got[99])
				}
				break
			}
			wantUnavailable(t, err, "source-timeout is 20s")
			if tries == 3 {
				t.Fatal("it never asks for little enough")
			}
		}
	})
}

// Calls keep the rate whoever makes them, and no more are under way than allowed.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		began := time.Now()
		s := &service{answer: func(_ context.Context, ids []string) reply {
			times = append(times, time.Since(began))
			return docs(ids...)
		}}
		opened := open(t, s, source.Config{Rate: 4, Batch: 1})
		done := make(chan struct{})
		for _, ids := range [][]string{{"1", "2"}, {"3", "4"}} {
			go func() {
				lookup(t, opened, ids...)
				done <- struct{}{}
			}()
		}
		<-done
		<-done
		ms := time.Millisecond
		if d := cmp.Diff([]time.Duration{0, 250 * ms, 500 * ms, 750 * ms}, times); d != "" {
			t.Errorf("times of calls (-want +got)\n%s", d)
		}
	})
}

func TestCallsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{answer: func(_ context.Context, ids []string) reply {
			<-time.After(time.Second)
			return docs(ids...)
		}}
		opened := open(t, s, source.Config{Calls: 2})
		began := time.Now()
		done := make(chan struct{})
		for _, id := range numbered(5) {
			go func() {
				lookup(t, opened, id)
				done <- struct{}{}
			}()
		}
		for range 5 {
			<-done
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("5 calls, 2 at a time, took %v", took)
		}
	})
}
