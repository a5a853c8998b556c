package source_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/worker/annotations/source"
)

func TestLookup(t *testing.T) {
	s := &service{answer: func(_ context.Context, ids []string) reply {
		return reply{body: "\ufeff" + `{"docs":[
			{"sourcedb":"pubmed","sourceid":"PMID:1","text":"é𝄞","source_url":null,"more":{"a":[1]}},
			{"sourceid":2,"text":"Two"},
			{"sourcedb":"PMC","sourceid":"3","text":"Of another database"},
			{"sourcedb":"PubMed","sourceid":"not asked for","text":"x"},
			{"sourcedb":"PubMed","sourceid":"abc","text":"In another case"},
			{"sourcedb":"PubMed","sourceid":"4","text":"Twice"},{"sourcedb":"PubMed","sourceid":"4","text":"Twice"},
			{"sourcedb":"PubMed","sourceid":"5","text":"One"},{"sourcedb":"PubMed","sourceid":"5","text":"or the other"},
			{"sourcedb":"PubMed","sourceid":"6","text":"a\u0000b"},
			{"sourcedb":"PubMed","sourceid":"7","text":" \n"},
			{"sourcedb":"PubMed","sourceid":"8"},
			{"sourcedb":"PubMed","sourceid":"9","text":9},
			{"sourcedb":7,"sourceid":"10","text":"x"},{"sourceid":["10"],"text":"x"}
		],"messages":["3 is not\nours","13 is nobody's",{"10":"gone"}],"took":3}`}
	}}
	opened := open(t, s, source.Config{})
	got := lookup(t, opened, "1", "2", "3", "ABC", "4", "5", "6", "7", "8", "9", "10", "1")
	wantDocuments(t, got, "é𝄞", "Two", "missing", "missing", "Twice", "refused", "refused", "refused", "refused", "refused",
		"missing", "é𝄞")
	for i, d := range got {
		if d.Length != utf8.RuneCountInString(d.Text) {
			t.Errorf("document %d has %d characters, not %d", i, utf8.RuneCountInString(d.Text), d.Length)
		}
	}
	const of = "The source of PubMed (https://docs.example.org/ask) "
	for i, want := range map[int]string{
		2:  of + `does not have document PubMed:3. It says: "3 is not ours".`,
		3:  of + `does not have document PubMed:ABC. It says: "3 is not ours".`,
		5:  of + "answers the request for document PubMed:5 with different texts at once.",
		6:  of + "answers the request for document PubMed:6 with a text that holds the character U+0000, which databases cannot store.",
		7:  of + "answers the request for document PubMed:7 with a blank text.",
		8:  of + "answers the request for document PubMed:8 without a text.",
		10: of + `does not have document PubMed:10. It says: "{\"10\":\"gone\"}".`,
	} {
		if d := cmp.Diff(want, got[i].Reason); d != "" {
			t.Errorf("reason (-want +got)\n%s", d)
		}
	}
	if d := cmp.Diff([][]string{{"1", "2", "3", "ABC", "4", "5", "6", "7", "8", "9", "10"}}, s.called()); d != "" {
		t.Errorf("calls (-want +got)\n%s", d)
	}
	if got := lookup(t, opened); len(got) != 0 {
		t.Errorf("no ids have documents: %v", got)
	}
	wantCalls(t, s, 1)
}

func TestListsAreBounded(t *testing.T) {
	s := &service{answer: func(_ context.Context, ids []string) reply { return docs(ids...) }}
	got := lookup(t, open(t, s, source.Config{Batch: 30}), numbered(100)...)
	if len(got) != 100 || got[99].Text != "Text of 100." {
		t.Errorf("%d documents, the last %v", len(got), got[len(got)-1])
	}
	var sizes []int
	for _, ids := range s.called() {
		sizes = append(sizes, len(ids))
	}
	if d := cmp.Diff([]int{30, 30, 30, 10}, sizes); d != "" {
		t.Errorf("ids a call (-want +got)\n%s", d)
	}
}

// One id that the source cannot bear costs only itself, and few calls, wherever it stands.
func TestOneBadIDIsFound(t *testing.T) {
	for _, status := range []int{400, 403, 404, 410, 413, 422, 451, 500, 501} {
		for _, bad := range []string{"1", "50", "51", "100"} {
			s := &service{answer: func(_ context.Context, ids []string) reply {
				if slices.Contains(ids, bad) {
					return reply{status: status, body: "No\nsuch \x00 id"}
				}
				return docs(ids...)
			}}
			synctest.Test(t, func(t *testing.T) {
				got := lookup(t, open(t, s, source.Config{}), numbered(100)...)
				for i, d := range got {
					want := "Text of " + numbered(100)[i] + "."
					if numbered(100)[i] == bad {
						want = "refused"
						if reason := d.Reason; !strings.Contains(reason, fmt.Sprintf("PubMed:%s with %d ", bad, status)) ||
							!strings.HasSuffix(reason, http.StatusText(status)+`, "No such id".`) {
							t.Errorf("status %d: %s", status, reason)
						}
					}
					if summary(d) != want {
						t.Errorf("status %d: document %d is %v", status, i+1, d)
					}
				}
			})
			if n, most := len(s.called())-1, int(2*math.Ceil(math.Log2(100)))+3; n > most {
				t.Errorf("status %d, id %s: %d calls more than one, want at most %d", status, bad, n, most)
			}
		}
	}
}

// A source that refuses everything is broken, and its ids are not to blame.
func TestBrokenSourceRefusesNothing(t *testing.T) {
	for name, test := range map[string]struct {
		reply reply
		calls int
		words string
	}{
		"no such page":   {reply{status: 404, body: "<html>"}, 8, "and an empty list with 404 Not Found"},
		"a defect":       {reply{status: 500, body: "Oh!"}, 10, `500 Internal Server Error, "Oh!"`},
		"another page":   {reply{body: "<html>Log in</html>"}, 8, "an answer that cannot be used"},
		"another form":   {reply{body: `{"error":"quota"}`}, 8, "it has no docs"},
		"nothing":        {reply{}, 8, "an empty answer"},
		"not allowed":    {reply{status: 401, body: "who?"}, 1, `401 Unauthorized, "who?"`},
		"not the method": {reply{status: 405}, 8, "405 Method Not Allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &service{answer: func(context.Context, []string) reply { return test.reply }}
				_, err := open(t, s, source.Config{}).Lookup(t.Context(), numbered(100))
				wantUnavailable(t, err, "PubMed (https://docs.example.org/ask): ", test.words)
				wantCalls(t, s, test.calls)
			})
		})
	}
}

// A source whose database is away answers an empty list, but not for what it had: no id is to blame. When what it had is
// gone, too, that is no outage.
func TestOutageBehindTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away, gone := false, ""
		s := &service{answer: func(_ context.Context, ids []string) reply {
			switch {
			case away && len(ids) > 0:
				return reply{status: 500, body: "no database"}
			case slices.Contains(ids, gone):
				return reply{status: 404}
			case slices.Contains(ids, "bad"):
				return reply{status: 500, body: "a defect"}
			default:
				return docs(ids...)
			}
		}}
		opened := open(t, s, source.Config{CacheBytes: 1})
		lookup(t, opened, "1", "2")
		away = true
		for range 2 {
			_, err := opened.Lookup(t.Context(), []string{"3", "4"})
			wantUnavailable(t, err, "it answers the request for 3 with 500", "and that for 2, which it had, with 500")
		}
		away = false
		wantDocuments(t, lookup(t, opened, "3", "4", "bad"), "Text of 3.", "Text of 4.", "refused")
		gone = "4"
		wantDocuments(t, lookup(t, opened, "bad"), "refused")
		wantDocuments(t, lookup(t, opened, "4"), "refused")
	})
}

// The only id there is, and it is bad: an empty list tells it from a source that is broken.
func TestOnlyIDIsBad(t *testing.T) {
	s := &service{answer: func(_ context.Context, ids []string) reply {
		if len(ids) > 0 {
			return reply{status: 404, body: "no document " + ids[0]}
		}
		return docs()
	}}
	got := lookup(t, open(t, s, source.Config{}), "x y")
	wantDocuments(t, got, "refused")
	if want := `PubMed:x y with 404 Not Found, "no document x y".`; !strings.HasSuffix(got[0].Reason, want) {
		t.Errorf("reason %q, want %q", got[0].Reason, want)
	}
	wantCalls(t, s, 2)
}

// Answers that cannot be used are like errors: the list is halved.
func TestHostileAnswers(t *testing.T) {
	for name, body := range map[string]string{
		"no JSON":              `{"docs":[}`,
		"cut off":              `{"docs":[{"sourceid":"3","text":"x`,
		"an array":             `[]`,
		"docs are no array":    `{"docs":{}}`,
		"a doc is no object":   `{"docs":[1]}`,
		"half a surrogate":     `{"docs":[{"sourceid":"3","text":"\ud800"}]}`,
		"not UTF-8":            "{\"docs\":[{\"sourceid\":\"3\",\"text\":\"\xff\"}]}",
		"two texts":            `{"docs":[{"sourceid":"3","text":"x","text":"y"}]}`,
		"docs twice":           `{"docs":[],"docs":[]}`,
		"more behind":          `{"docs":[]} {}`,
		"nested":               `{"docs":[],"x":` + strings.Repeat("[", 1_000_000),
		"large":                `{"docs":[{"sourceid":"3","text":"` + strings.Repeat("x", 2<<20) + `"}]}`,
		"many":                 `{"docs":[` + strings.Repeat(`{"sourceid":"z","text":"x"},`, 100_000) + `{}]}`,
		"messages are a token": `{"docs":[],"messages":"` + strings.Repeat("x", 2<<20) + `"}`,
	} {
		s := &service{answer: func(_ context.Context, ids []string) reply {
			if slices.Contains(ids, "3") {
				return reply{body: body}
			}
			return docs(ids...)
		}}
		got := lookup(t, open(t, s, source.Config{MaxBytes: 1 << 20}), numbered(5)...)
		if got := summaries(got); got[2] != "refused" || got[0] != "Text of 1." || got[4] != "Text of 5." {
			t.Errorf("%s: %v", name, got)
		}
		if reason := got[2].Reason; len(reason) > 1000 || !utf8.ValidString(reason) {
			t.Errorf("%s: reason %q", name, reason)
		}
	}
}

// Where an answer is too large smaller lists are asked for, and from then on, too.
func TestLargeAnswers(t *testing.T) {
	text := strings.Repeat("x", 1000)
	s := &service{answer: func(_ context.Context, ids []string) reply {
		body := strings.ReplaceAll(docs(ids...).body, "Text", text)
		return reply{body: body}
	}}
	opened := open(t, s, source.Config{MaxBytes: 20_000})
	var got []source.Document
	lookups := 0
	for ids := numbered(50); len(ids) > 0; lookups++ {
		some := lookup(t, opened, ids...)
		if bytes := len(some) * len(text); len(some) == 0 || bytes > 40_000 {
			t.Fatalf("%d documents at once", len(some))
		}
		got, ids = append(got, some...), ids[len(some):]
	}
	for i, d := range got {
		if !strings.HasPrefix(d.Text, text) {
			t.Errorf("document %d is %q", i, summary(d))
		}
	}
	if refused := len(s.called()) - 50/12; lookups < 2 || refused > 4 {
		t.Errorf("%d lookups, calls %v", lookups, s.called())
	}
}

func TestLookupEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("enough")
		for name, config := range map[string]source.Config{
			"under way":    {},
			"between":      {},
			"left alone":   {Patience: time.Hour},
			"not its turn": {Rate: 0.001},
		} {
			s := &service{answer: func(ctx context.Context, ids []string) reply {
				switch name {
				case "under way":
					<-ctx.Done()
					return reply{err: ctx.Err()}
				case "between":
					return reply{err: errors.New("connection refused")}
				case "left alone":
					return reply{status: 429, header: http.Header{"Retry-After": {"200"}}}
				default:
					return docs(ids...)
				}
			}}
			ctx, cancel := context.WithCancelCause(t.Context())
			stop := time.AfterFunc(10*time.Second, func() { cancel(cause) })
			opened := open(t, s, config)
			if name == "not its turn" {
				lookup(t, opened, "1")
			}
			began := time.Now()
			_, err := opened.Lookup(ctx, []string{"2"})
			if !errors.Is(err, cause) || time.Since(began) > 10*time.Second {
				t.Errorf("%s: error %v after %v, want %v", name, err, time.Since(began), cause)
			}
			stop.Stop()
			cancel(nil)
		}
	})
}

func TestConfig(t *testing.T) {
	for name, change := range map[string]func(*source.Config){
		"no sourcedb":      func(c *source.Config) { c.SourceDB = "" },
		"another spelling": func(c *source.Config) { c.SourceDB = "pubmed" },
		"no URL":           func(c *source.Config) { c.URL = "" },
		"no host":          func(c *source.Config) { c.URL = "http:///x" },
		"a file":           func(c *source.Config) { c.URL = "file:///etc/passwd" },
		"a broken URL":     func(c *source.Config) { c.URL = "https://me:secret@host:port/" },
		"too many ids":     func(c *source.Config) { c.Batch = 1001 },
		"no number":        func(c *source.Config) { c.Rate = math.NaN() },
		"calls":            func(c *source.Config) { c.Calls = -1 },
		"timeout":          func(c *source.Config) { c.Timeout = -1 },
		"patience":         func(c *source.Config) { c.Patience = -1 },
		"too many bytes":   func(c *source.Config) { c.MaxBytes = store.MaxDocumentBytes + 1 },
		"cache":            func(c *source.Config) { c.CacheBytes = -1 },
	} {
		config := source.Config{SourceDB: "PubMed", URL: "https://host/"}
		if err := config.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&config)
		if _, err := source.New(config); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
