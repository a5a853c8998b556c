package source_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/worker/annotations/source"
)

// openAt returns a source at a URL, over a real network.
func openAt(t *testing.T, url string, config source.Config) *source.Source {
	t.Helper()
	config.SourceDB, config.URL, config.Rate = "PubMed", url, -1
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

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func TestRequest(t *testing.T) {
	var got string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		got = strings.Join([]string{r.Method, r.URL.String(), r.Header.Get("Content-Type"), r.Header.Get("Accept"),
			r.Header.Get("X-Api-Key"), r.Header.Get("User-Agent"), user, password, string(body), fmt.Sprint(err)}, "|")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, docs("1", "a/b").body) //nolint:errcheck // the other end complains
		z.Close()                                //nolint:errcheck // the other end complains
	})
	url = strings.Replace(url, "http://", "http://me:secret@", 1) + "/ask?key=1"
	opened := openAt(t, url, source.Config{Header: http.Header{"x-api-key": {"k"}}, UserAgent: "tallyman/1"})
	wantDocuments(t, lookup(t, opened, "1", "a/b"), "Text of 1.", "Text of a/b.")
	want := `POST|/ask?key=1|application/json|application/json|k|tallyman/1|me|secret|["1","a/b"]|<nil>`
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("request (-want +got)\n%s", d)
	}
}

// The key of a source goes along with redirections, but not to other hosts.
func TestRedirection(t *testing.T) {
	answer := func(keys *string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			*keys = r.Header.Get("X-Api-Key") + string(body)
			io.WriteString(w, docs("1").body) //nolint:errcheck // the other end complains
		}
	}
	var here, there string
	other := serve(t, answer(&there))
	mux := http.NewServeMux()
	mux.HandleFunc("/here", answer(&here))
	mux.Handle("/to-here", http.RedirectHandler("/here", http.StatusTemporaryRedirect))
	mux.Handle("/to-there", http.RedirectHandler(other, http.StatusPermanentRedirect))
	mux.Handle("/for-ever", http.RedirectHandler("/for-ever", http.StatusPermanentRedirect))
	url := serve(t, mux.ServeHTTP)
	config := source.Config{Header: http.Header{"X-Api-Key": {"k"}}, Patience: time.Nanosecond}
	wantDocuments(t, lookup(t, openAt(t, url+"/to-here", config), "1"), "Text of 1.")
	wantDocuments(t, lookup(t, openAt(t, url+"/to-there", config), "1"), "Text of 1.")
	if d := cmp.Diff([]string{`k["1"]`, `["1"]`}, []string{here, there}); d != "" {
		t.Errorf("keys and bodies (-want +got)\n%s", d)
	}
	_, err := openAt(t, url+"/for-ever", config).Lookup(t.Context(), []string{"1"})
	wantUnavailable(t, err, "redirects more than 10 times")
}

// An answer without an end ends at its limit; one that breaks off, or never comes, says nothing about an id.
func TestAnswersThatDoNotEnd(t *testing.T) {
	ended := make(chan struct{})
	handlers := map[string]http.HandlerFunc{
		"endless": func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if string(body) == "[]" {
				io.WriteString(w, docs().body) //nolint:errcheck // the other end complains
				return
			}
			io.WriteString(w, `{"docs":[{"sourceid":"1","text":"`) //nolint:errcheck // the other end complains
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("x", 1<<16)); err != nil {
					return
				}
			}
		},
		"broken off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"docs":[{"sourceid":"1","text":"`) //nolint:errcheck // the other end complains
		},
		"silent": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-ended:
			}
		},
		"dripping": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, " "); err != nil || http.NewResponseController(w).Flush() != nil {
					return
				}
			}
		},
	}
	config := source.Config{MaxBytes: 1 << 20, Patience: time.Nanosecond}
	got := lookup(t, openAt(t, serve(t, handlers["endless"]), config), "1")
	wantDocuments(t, got, "refused")
	if want := "an answer of more than 1048576 bytes (source-max-bytes)."; !strings.HasSuffix(got[0].Reason, want) {
		t.Errorf("reason %q, want %q", got[0].Reason, want)
	}
	_, err := openAt(t, serve(t, handlers["broken off"]), config).Lookup(t.Context(), []string{"1"})
	wantUnavailable(t, err, "read the answer: unexpected EOF")
	config.Timeout, config.MaxBytes = 100*time.Millisecond, 0
	for _, name := range []string{"silent", "dripping"} {
		_, err = openAt(t, serve(t, handlers[name]), config).Lookup(t.Context(), []string{"1"})
		wantUnavailable(t, err, "the answer took too long: source-timeout is 100ms")
	}
	close(ended)
}
