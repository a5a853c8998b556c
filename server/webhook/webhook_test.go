package webhook_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/sqlite"
	"github.com/tallyman-dev/tallyman/server/webhook"
)

var secret = []byte("a secret of 24 characters")

// receiver is what answers the requests.
type receiver struct {
	mu      sync.Mutex
	answers []int // in turns; the last one for all that follow. 0 is a connection that breaks
	got     []string
	last    *http.Request
	body    []byte
	at      []time.Time
	results map[string]int
}

// RoundTrip implements http.RoundTripper.
func (r *receiver) RoundTrip(request *http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got, r.at, r.last = append(r.got, request.Header.Get(webhook.HeaderDelivery)), append(r.at, time.Now()), request
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	r.body = body
	code := r.answers[0]
	if len(r.answers) > 1 {
		r.answers = r.answers[1:]
	}
	if code == 0 {
		return nil, errors.New("it broke")
	}
	return &http.Response{StatusCode: code, Header: http.Header{"Location": {"http://elsewhere"}}, Body: io.NopCloser(strings.NewReader("…")), Request: request}, nil
}

// Delivered implements webhook.Meter.
func (r *receiver) Delivered(result string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results[result]++
}

// scene is a sender on an empty database.
type scene struct {
	*testing.T
	store    *sqlite.Store
	receiver *receiver
	sender   *webhook.Sender
	figures  store.Figures
}

func within(t *testing.T, answers []int, f func(s *scene)) {
	t.Helper()
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(folder, "tallyman.db"), Migrate: true})
		if err != nil {
			t.Fatal(err)
		}
		s := &scene{T: t, store: st, receiver: &receiver{answers: answers, results: map[string]int{}}}
		s.sender = s.newSender()
		f(s)
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (s *scene) newSender() *webhook.Sender {
	return webhook.New(webhook.Config{URL: "http://user:password@there/hook", Secret: secret, MaxCrashRate: 0.05, Transport: s.receiver}, s.store,
		func() (store.Figures, bool) { return s.figures, true }, s.receiver, slog.New(slog.DiscardHandler))
}

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *scene) add(id string) {
	s.Helper()
	_, err := s.store.AddDelivery(s.Context(), store.Delivery{ID: id, Event: "test", Body: []byte(`{"id":"` + id + `"}`)})
	s.must(err)
}

func (s *scene) want(what string, got, want any) {
	s.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestDeliveriesAreSentOnceTheyArrive(t *testing.T) {
	within(t, []int{204}, func(s *scene) {
		s.add("a")
		for range 3 {
			s.must(s.sender.SendOnce(s.Context()))
		}
		s.want("sent", s.receiver.got, []string{"a"})
		s.want("body", string(s.receiver.body), `{"id":"a"}`)
		s.want("signature", s.receiver.last.Header.Get(webhook.HeaderSignature), webhook.Sign(secret, time.Now(), s.receiver.body))
		s.want("event", s.receiver.last.Header.Get(webhook.HeaderEvent), "test")
		s.want("results", s.receiver.results, map[string]int{"delivered": 1})
	})
}

// pass lets time go by in the bubble of a test.
func pass(d time.Duration) { <-time.After(d) }

// What does not arrive is sent again, ever more seldom, and no longer than for a day; under the same id, and by whoever there is.
func TestDeliveriesAreRepeated(t *testing.T) {
	within(t, []int{0, 500, 302, 200}, func(s *scene) {
		s.add("a")
		ctx, cancel := context.WithCancel(s.Context())
		var running sync.WaitGroup
		for range 2 { // two coordinators of one database
			running.Go(func() { s.newSender().Run(ctx) })
		}
		pass(5 * time.Minute)
		cancel()
		running.Wait()
		s.want("sent", s.receiver.got, []string{"a", "a", "a", "a"})
		s.want("results", s.receiver.results, map[string]int{"failed": 3, "delivered": 1})
		for i, least := range []time.Duration{4 * time.Second, 9 * time.Second, 18 * time.Second} {
			if wait := s.receiver.at[i+1].Sub(s.receiver.at[i]); wait < least || wait > 2*least+4*time.Second {
				s.Errorf("it was sent again after %v", wait)
			}
		}
	})
}

func TestDeliveriesAreGivenUp(t *testing.T) {
	within(t, []int{404}, func(s *scene) {
		s.add("a")
		ctx, cancel := context.WithCancel(s.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.sender.Run(ctx)
		}()
		pass(48 * time.Hour)
		cancel()
		<-done
		if n := len(s.receiver.got); n < 90 || n > 120 {
			s.Errorf("it was sent %d times in a day", n)
		}
		s.want("given up", s.receiver.results["given_up"], 1)
		if last := s.receiver.at[len(s.receiver.at)-1].Sub(s.receiver.at[0]); last < 24*time.Hour || last > 25*time.Hour {
			s.Errorf("it was sent for %v", last)
		}
	})
}

// That too much crashes is told once an hour, while it does, of enough batches.
func TestCrashRateIsTold(t *testing.T) {
	within(t, []int{200}, func(s *scene) {
		watch := func() {
			s.Helper()
			s.must(s.sender.WatchOnce(s.Context()))
			s.must(s.sender.SendOnce(s.Context()))
		}
		s.figures.Ended[job.BatchCompleted], s.figures.Crashed = 19, 19
		watch()
		s.figures.Ended[job.BatchCompleted], s.figures.Crashed = 20, 1
		watch()
		s.want("told of too few, and of no more than the limit", s.receiver.got, []string(nil))
		s.figures.Crashed = 2
		watch()
		pass(10 * time.Minute)
		watch()
		s.want("told", s.receiver.got, []string{"crash-rate-2000-01-01T00"})
		s.want("body", string(s.receiver.body), `{"id":"crash-rate-2000-01-01T00","event":"crash_rate.exceeded","at":"2000-01-01T00:00:00Z",`+
			`"crash_rate":0.1,"limit":0.05,"batches":20,"batches_crashed":2}`)
		pass(time.Hour)
		watch()
		s.want("told an hour later", s.receiver.got, []string{"crash-rate-2000-01-01T00", "crash-rate-2000-01-01T01"})
	})
}

func TestConfigurationsThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, c := range []webhook.Config{
		{URL: "ftp://user:password@there", Secret: secret}, {URL: "there", Secret: secret}, {URL: "https://there", Secret: []byte("short")},
		{URL: "https://there", Secret: secret, MaxCrashRate: 2},
	} {
		if err := c.Validate(); err == nil || strings.Contains(err.Error(), "password") {
			t.Errorf("%s was answered with %v", c.URL, err)
		}
	}
	for _, c := range []webhook.Config{{}, {URL: "https://there/hook", Secret: secret, MaxCrashRate: 0.05}} {
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// The verifier of docs/webhooks.md accepts what was signed, and nothing else.
func TestVerifierOfTheDocument(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("SKIPPED: no python3 on the PATH, so that the verifier of docs/webhooks.md is not run")
	}
	text, err := os.ReadFile("../../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```python\n")
	code, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("docs/webhooks.md has no verifier")
	}
	code += "\nimport sys\nsys.exit(0 if verify(sys.argv[1].encode(), sys.argv[2], sys.stdin.buffer.read()) else 3)\n"
	body := `{"id":"job-1-run-1","project":"ärger"}`
	now := time.Now()
	for _, c := range []struct {
		name, secret, header, body string
		want                       int
	}{
		{"as it was signed", string(secret), webhook.Sign(secret, now, []byte(body)), body, 0},
		{"another body", string(secret), webhook.Sign(secret, now, []byte(body)), body + " ", 3},
		{"another secret", "another secret, as long", webhook.Sign(secret, now, []byte(body)), body, 3},
		{"another time", string(secret), "t=1," + strings.SplitN(webhook.Sign(secret, now, []byte(body)), ",", 2)[1], body, 3},
		{"of long ago", string(secret), webhook.Sign(secret, now.Add(-time.Hour), []byte(body)), body, 3},
	} {
		verify := exec.CommandContext(t.Context(), python, "-c", code, c.secret, c.header)
		verify.Stdin = strings.NewReader(c.body)
		out, err := verify.CombinedOutput()
		if got := verify.ProcessState.ExitCode(); got != c.want {
			t.Errorf("%s: the verifier ended with %d (%v), want %d: %s", c.name, got, err, c.want, out)
		}
	}
}
