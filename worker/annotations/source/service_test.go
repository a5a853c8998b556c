package source_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tallyman-dev/tallyman/worker/annotations/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reply is how a service answers a call.
type reply struct {
	status int
	header http.Header
	body   string
	err    error // instead of all that
}

// service is a document source in this process. It is a transport, so that it can be asked under testing/synctest.
type service struct {
	answer func(ctx context.Context, ids []string) reply

	mu    sync.Mutex
	calls [][]string
	last  *http.Request
}

func (s *service) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	var ids []string
	if err := json.Unmarshal(body, &ids); err != nil || ids == nil || request.Method != http.MethodPost {
		return nil, fmt.Errorf("a %s of %s: %w", request.Method, body, err)
	}
	s.mu.Lock()
	s.calls, s.last = append(s.calls, ids), request
	s.mu.Unlock()
	r := s.answer(request.Context(), ids)
	if r.err != nil {
		return nil, r.err
	}
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return &http.Response{
		StatusCode: r.status, Header: r.header, Body: io.NopCloser(bytes.NewBufferString(r.body)), Request: request,
	}, nil
}

func (s *service) called() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// docs is an answer with a text for each of the ids.
func docs(ids ...string) reply {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"sourcedb":"PubMed","sourceid":%q,"text":"Text of %s.","source_url":"https://x/%s"}`, id, id, id)
	}
	return reply{body: `{"docs":[` + b.String() + `],"messages":[]}`}
}

// open returns a source that is the service, quick unless the config says otherwise.
func open(t *testing.T, s *service, config source.Config) *source.Source {
	t.Helper()
	config.SourceDB, config.Transport = "PubMed", s
	if config.URL == "" {
		config.URL = "https://docs.example.org/ask"
	}
	if config.Rate == 0 {
		config.Rate = -1
	}
	opened, err := source.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	return opened
}

// numbered returns n ids.
func numbered(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = strconv.Itoa(i + 1)
	}
	return ids
}

// summary is what a document comes to, in short.
func summary(d source.Document) string {
	switch {
	case d.Text != "":
		return d.Text
	case d.Refused:
		return "refused"
	default:
		return "missing"
	}
}

func summaries(list []source.Document) []string {
	var out []string
	for _, d := range list {
		out = append(out, summary(d))
	}
	return out
}

func lookup(t *testing.T, s *source.Source, ids ...string) []source.Document {
	t.Helper()
	got, err := s.Lookup(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func wantDocuments(t *testing.T, got []source.Document, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, summaries(got)); d != "" {
		t.Errorf("documents (-want +got)\n%s\n%v", d, got)
	}
}

func wantCalls(t *testing.T, s *service, want int) {
	t.Helper()
	if calls := s.called(); len(calls) != want {
		t.Errorf("%d calls, want %d: %v", len(calls), want, calls)
	}
}

func wantUnavailable(t *testing.T, err error, words ...string) {
	t.Helper()
	if !errors.Is(err, source.ErrUnavailable) {
		t.Errorf("error %v, want %v", err, source.ErrUnavailable)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}
