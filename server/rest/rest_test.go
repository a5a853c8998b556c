package rest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server"
)

const items = `{"n":1}` + "\n" + `{"n":"evil"}` + "\n" + `{"n":3}` + "\n"

// uploaded is what an upload is answered with.
type uploaded struct {
	Job struct {
		ID       string            `json:"job_id"`
		State    string            `json:"state"`
		FileName string            `json:"file_name"`
		Labels   map[string]string `json:"labels"`
		Reason   string            `json:"reason"`
	} `json:"job"`
	URL      string `json:"url"`
	WatchURL string `json:"watch_url"`
}

// Upload, follow, fetch the failed items, with nothing but HTTP.
func TestUploadWatchItems(t *testing.T) {
	onBoth(t, func(s *site) {
		a := s.do("POST", "/v1/uploads?kind=test&labels.who=me&labels[why]=so&file_name=x.jsonl", strings.NewReader(items))
		var up uploaded
		s.read(a, http.StatusCreated, &up)
		if d := cmp.Diff(map[string]string{"who": "me", "why": "so"}, up.Job.Labels); d != "" {
			s.Errorf("labels (-want +got):\n%s", d)
		}
		if up.Job.FileName != "x.jsonl" || a.header.Get("Location") != up.URL || up.URL != "/v1/jobs/"+up.Job.ID {
			s.Errorf("answered %+v at %s", up, a.header.Get("Location"))
		}
		seen := events(s.T, strings.NewReader(s.do("GET", up.WatchURL, nil).body))
		if len(seen) < 2 || seen[len(seen)-1].name != "end" {
			s.Fatalf("events %v, want jobs and an end", seen)
		}
		last := seen[len(seen)-2]
		if last.name != "job" || !strings.Contains(last.data, `"state":"JOB_STATE_COMPLETED_WITH_ERRORS"`) || last.id == "" {
			s.Errorf("the last event of the job is %v", last)
		}
		again := events(s.T, strings.NewReader(s.do("GET", up.WatchURL, nil, "Last-Event-ID", last.id).body))
		if d := cmp.Diff([]event{{name: "end", data: "{}"}}, again, cmp.AllowUnexported(event{})); d != "" {
			s.Errorf("events after the last (-want +got):\n%s", d)
		}
		bad := s.do("GET", up.URL+"/items?outcomes=OUTCOME_REJECTED&outcomes=OUTCOME_FAILED", nil)
		if d := cmp.Diff(answer{200, nil, `{"n":"evil"}` + "\n"}, answer{bad.code, nil, bad.body}, cmp.AllowUnexported(answer{})); d != "" {
			s.Errorf("bad items (-want +got):\n%s", d)
		}
		if kind := bad.header.Get("Content-Type"); kind != "application/x-ndjson" {
			s.Errorf("items are of type %q", kind)
		}
		results := s.do("GET", up.URL+"/results", nil)
		var got []string
		for line := range strings.Lines(results.body) {
			var r struct {
				Item   string          `json:"item"`
				Result json.RawMessage `json:"result"`
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				s.Fatal(err)
			}
			got = append(got, r.Item+" "+string(r.Result))
		}
		if d := cmp.Diff([]string{`1 {"n":1}`, `3 {"n":3}`}, got); d != "" {
			s.Errorf("results (-want +got):\n%s", d)
		}
	})
}

// A form carries the same; what it says comes before its file.
func TestUploadForm(t *testing.T) {
	s := open(t, server.Config{Database: "sqlite:" + filepath.Join(t.TempDir(), "tallyman.db")})
	form := func(parts ...string) answer {
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		for _, p := range parts {
			name, value, _ := strings.Cut(p, "=")
			var part io.Writer
			var err error
			if name == "file" {
				part, err = w.CreateFormFile(name, "f.jsonl")
			} else {
				part, err = w.CreateFormField(name)
			}
			if err == nil {
				_, err = io.WriteString(part, value)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return s.do("POST", "/v1/uploads?kind=test", &body, "Content-Type", w.FormDataContentType())
	}
	var up uploaded
	s.read(form("labels.a=b", "file="+items), http.StatusCreated, &up)
	if up.Job.FileName != "f.jsonl" || up.Job.Labels["a"] != "b" {
		t.Errorf("answered %+v", up)
	}
	for name, c := range map[string]struct {
		parts []string
		want  string
	}{
		"no file":         {[]string{"labels.a=b"}, `the form has no field \"file\"`},
		"a wrong field":   {[]string{"lables=b", "file=" + items}, `there is no \"lables\" here; there are: file_name, kind`},
		"more behind it":  {[]string{"file=" + items, "labels.a=b"}, "the form goes on after its file"},
		"too much before": {[]string{"labels.a=" + strings.Repeat("x", 1<<17), "file=" + items}, "more than 65536 bytes of fields"},
	} {
		if a := form(c.parts...); a.code != http.StatusBadRequest && a.code != http.StatusConflict || !strings.Contains(a.body, c.want) {
			t.Errorf("%s: answered %d: %s, want %s", name, a.code, a.body, c.want)
		}
	}
}

// An upload that was cut goes on with the same upload_id, and is not taken twice.
func TestUploadResumes(t *testing.T) {
	onBoth(t, func(s *site) {
		const path = "/v1/uploads?kind=test&upload_id=mine"
		half, rest := io.Pipe()
		cut := make(chan error, 1)
		go func() {
			r, err := http.NewRequestWithContext(s.ctx, http.MethodPost, s.base+path, half)
			if err == nil {
				_, err = http.DefaultClient.Do(r) //nolint:bodyclose // there is none: it fails
			}
			cut <- err
		}()
		if _, err := io.WriteString(rest, items[:10]); err != nil {
			s.Fatal(err)
		}
		s.until("the upload is open", func() bool { return s.do("GET", "/v1/uploads/mine", nil).code == http.StatusOK })
		rest.CloseWithError(fmt.Errorf("the network is gone"))
		if err := <-cut; err == nil {
			s.Fatal("the upload was not cut")
		}
		var up, same uploaded
		s.read(s.do("POST", path, strings.NewReader(items)), http.StatusCreated, &up)
		s.read(s.do("POST", path, strings.NewReader(items)), http.StatusCreated, &same)
		if up.Job.ID != same.Job.ID {
			s.Errorf("jobs %s and %s, want one", up.Job.ID, same.Job.ID)
		}
		other := s.do("POST", path, strings.NewReader(`{"n":7}`+"\n"))
		if other.code != http.StatusBadRequest || !strings.Contains(other.body, "UPLOAD_CHANGED") {
			s.Errorf("another file was answered with %d: %s", other.code, other.body)
		}
	})
}

// until waits for a state.
func (s *site) until(what string, reached func() bool) {
	s.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patient); !reached(); <-tick.C {
		if time.Now().After(deadline) {
			s.Fatalf("waited %v until %s", patient, what)
		}
	}
}

// What is wrong is said with the status and the reason that belong to it.
func TestErrors(t *testing.T) {
	s := open(t, server.Config{Database: "sqlite:" + filepath.Join(t.TempDir(), "tallyman.db")})
	for _, c := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "/v1/jobs/7", "", 404, "JOB_NOT_FOUND"},
		{"GET", "/v1/jobs/seven", "", 400, "seven"},
		{"GET", "/v1/jobs/seven/watch", "", 400, `job_id \"seven\" is not a number`},
		{"GET", "/v1/jobs/7/watch", "", 404, "JOB_NOT_FOUND"},
		{"GET", "/v1/jobs/7/watch?after_revision=x", "", 400, `after_revision \"x\" is not a number`},
		{"GET", "/v1/jobs/7/items", "", 404, "JOB_NOT_FOUND"},
		{"GET", "/v1/jobs/7/items?outcomes=BAD", "", 400, "BAD"},
		{"GET", "/v1/jobs/7/results", "", 404, "JOB_NOT_FOUND"},
		{"GET", "/v1/jobs?color=red", "", 400, `there is no \"color\" here`},
		{"POST", "/v1/uploads", items, 400, "header.project: is required for kind annotations"},
		{"POST", "/v1/uploads?kind=test&x=1", items, 400, `there is no \"x\" here`},
		{"POST", "/v1/uploads?kind=test", "%PDF-1.4\n", 422, "this looks like a PDF"},
		{"POST", "/v1/jobs/7:cancel", "", 404, "JOB_NOT_FOUND"},
		{"POST", "/v1/jobs/7:retry", `{"request_id":"r","x":1}`, 400, "unknown field"},
		{"DELETE", "/v1/jobs/7", "", 404, "JOB_NOT_FOUND"},
		{"GET", "/v2/jobs", "", 404, "there is no GET /v2/jobs here; see /api"},
		{"GET", "/v1/colors", "", 404, "Not Found"},
		{"PUT", "/v1/jobs", "{}", 501, "Method Not Allowed"},
	} {
		a := s.do(c.method, c.path, strings.NewReader(c.body))
		if a.code != c.code || !strings.Contains(a.body, c.want) {
			t.Errorf("%s %s answered %d: %s, want %d and %s", c.method, c.path, a.code, a.body, c.code, c.want)
		}
		var e struct {
			Message string `json:"message"`
			Job     any    `json:"job"`
		}
		if err := json.Unmarshal([]byte(a.body), &e); err != nil || e.Message == "" && e.Job == nil {
			t.Errorf("%s %s: %v in %s", c.method, c.path, err, a.body)
		}
	}
}

// Pages of other origins can read nothing and change nothing.
func TestOtherOrigins(t *testing.T) {
	s := open(t, server.Config{Database: "sqlite:" + filepath.Join(t.TempDir(), "tallyman.db")})
	for _, c := range []struct {
		name   string
		header []string
		code   int
	}{
		{"curl", nil, 201},
		{"the same", []string{"Sec-Fetch-Site", "same-origin", "Origin", s.base}, 201},
		{"another site", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://example.org"}, 403},
		{"an old browser", []string{"Origin", "https://example.org"}, 403},
		{"a name that leads here", []string{"Host", "example.org"}, 421},
		{"an address that leads here", []string{"Host", "192.0.2.1:7651"}, 421},
		{"localhost", []string{"Host", "localhost:7651"}, 201},
		{"IPv6", []string{"Host", "[::1]"}, 201},
	} {
		a := s.do("POST", "/v1/uploads?kind=test", strings.NewReader(items), c.header...)
		if a.code != c.code {
			t.Errorf("%s: answered %d: %s, want %d", c.name, a.code, a.body, c.code)
		}
	}
}

// Who stands still is given up, with a word.
func TestIdle(t *testing.T) {
	s := open(t, server.Config{Database: "sqlite:" + filepath.Join(t.TempDir(), "tallyman.db"), HTTPIdleTimeout: 200 * time.Millisecond})
	body, still := io.Pipe()
	defer still.Close()
	a := s.do("POST", "/v1/uploads?kind=test&upload_id=slow", body)
	if a.code != http.StatusConflict || !strings.Contains(a.body, "goes on when the same is sent again with its upload_id") {
		t.Errorf("answered %d: %s", a.code, a.body)
	}
}

// A coordinator that stops ends what would go on by itself.
func TestStop(t *testing.T) {
	onBoth(t, func(s *site) {
		body, still := io.Pipe()
		defer still.Close()
		answers := make(chan answer, 2)
		go func() { answers <- s.do("POST", "/v1/uploads?kind=test&upload_id=long", body) }()
		var job struct {
			Upload struct {
				JobID string `json:"job_id"`
			} `json:"upload"`
		}
		s.until("the upload is open", func() bool {
			a := s.do("GET", "/v1/uploads/long", nil)
			return a.code == http.StatusOK && json.Unmarshal([]byte(a.body), &job) == nil
		})
		watch, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.base+"/v1/jobs/"+job.Upload.JobID+"/watch", nil)
		if err != nil {
			s.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(watch)
		if err != nil {
			s.Fatal(err)
		}
		defer resp.Body.Close()
		if err := s.halt(); err != nil {
			s.Error(err)
		}
		if a := <-answers; a.code != http.StatusServiceUnavailable || !strings.Contains(a.body, "the coordinator is stopping") {
			s.Errorf("the upload was answered with %d: %s", a.code, a.body)
		}
		seen := events(s.T, resp.Body)
		if len(seen) == 0 || seen[len(seen)-1].name != "error" {
			s.Errorf("the watch ended with %v, want an error", seen)
		}
	})
}

// Every call of the protocol for clients and operators can be made, and is described; what is described exists.
func TestDescription(t *testing.T) {
	s := open(t, server.Config{Database: "sqlite:" + filepath.Join(t.TempDir(), "tallyman.db")})
	var api struct {
		Paths map[string]map[string]struct {
			ID         string `json:"operationId"`
			Parameters []struct {
				Name  string `json:"name"`
				Items struct {
					Enum []string `json:"enum"`
				} `json:"items"`
			} `json:"parameters"`
		} `json:"paths"`
	}
	s.read(s.do("GET", "/openapi.json", nil), http.StatusOK, &api)
	page := s.do("GET", "/api", nil).body
	described := map[string]bool{}
	for path, operations := range api.Paths {
		for method, o := range operations {
			described[strings.TrimSuffix(o.ID, "2")] = true
			if !strings.Contains(page, `id="`+o.ID+`"`) {
				t.Errorf("the page lacks %s", o.ID)
			}
			// An id that nothing has: it is not there, but the call is.
			a := s.do(strings.ToUpper(method), strings.NewReplacer("{job_id}", "9", "{batch_id}", "9", "{upload_id}", "u", "{worker_id}", "x",
				"jobs:watch", "jobs:watch?newest=-1").Replace(path), // the list has no end; this is an error
				strings.NewReader("{}"))
			if a.code == http.StatusNotImplemented || a.code == http.StatusMethodNotAllowed || strings.Contains(a.body, "Not Found") {
				t.Errorf("%s %s is described and answers %d: %s", method, path, a.code, a.body)
			}
			for _, p := range o.Parameters {
				if p.Name == "outcomes" {
					if d := cmp.Diff(names(pb.Outcome(0).Descriptor()), p.Items.Enum); d != "" {
						t.Errorf("outcomes (-protocol +description):\n%s", d)
					}
				}
			}
		}
	}
	services := pb.File_tallyman_v1_job_service_proto.Services()
	methods := services.Get(0).Methods()
	for i := range methods.Len() {
		if m := methods.Get(i); !described["JobService_"+string(m.Name())] {
			t.Errorf("%s cannot be called", m.FullName())
		}
	}
	methods = pb.File_tallyman_v1_admin_service_proto.Services().Get(0).Methods()
	for i := range methods.Len() {
		if m := methods.Get(i); !described["AdminService_"+string(m.Name())] {
			t.Errorf("%s cannot be called", m.FullName())
		}
	}
}

// names returns the values of an enum but the first, which stands for none.
func names(e protoreflect.EnumDescriptor) []string {
	var list []string
	for i := range e.Values().Len() {
		list = append(list, string(e.Values().Get(i).Name()))
	}
	return slices.Delete(list, 0, 1)
}

func TestProbes(t *testing.T) {
	s := open(t, server.Config{Database: "sqlite:" + filepath.Join(t.TempDir(), "tallyman.db")})
	for _, path := range []string{"/healthz", "/readyz"} {
		if a := s.do("GET", path, nil); a.code != http.StatusOK || a.body != "ok\n" {
			t.Errorf("%s answered %d: %s", path, a.code, a.body)
		}
	}
}
