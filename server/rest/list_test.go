package rest_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// The list of jobs comes first, then what changes of it, and what is gone.
func TestWatchJobs(t *testing.T) {
	onBoth(t, func(s *site) {
		submit := func(query string) string {
			s.Helper()
			var up uploaded
			s.read(s.do("POST", "/v1/uploads?kind=test&"+query, strings.NewReader("{}\n{}\n")), http.StatusCreated, &up)
			if a := s.do("GET", "/v1/jobs/"+up.Job.ID+"/watch", nil); !strings.Contains(a.body, "event: end") { // which is when it has ended
				s.Fatalf("watch job %s: %d %s", up.Job.ID, a.code, a.body)
			}
			return up.Job.ID
		}
		first, other := submit("project=my-project"), submit("project=other-project")
		resp, err := http.Get(s.base + "/v1/jobs:watch?project=my-project&newest=5")
		if err != nil {
			s.Fatal(err)
		}
		defer resp.Body.Close()
		events := bufio.NewScanner(resp.Body)
		states, gone, whole := map[string]string{}, map[string]bool{}, false
		until := func(done func() bool) {
			s.Helper()
			for !done() {
				if !events.Scan() {
					s.Fatalf("the stream ends: %v; states %v, gone %v", events.Err(), states, gone)
				}
				data, ok := strings.CutPrefix(events.Text(), "data: ")
				if !ok {
					continue
				}
				var m struct {
					Jobs []struct {
						ID    string `json:"job_id"`
						State string `json:"state"`
					} `json:"jobs"`
					Gone  []string `json:"gone_job_ids"`
					Whole bool     `json:"whole"`
				}
				if err := json.Unmarshal([]byte(data), &m); err != nil {
					s.Fatal(err)
				}
				for _, j := range m.Jobs {
					states[j.ID] = j.State
				}
				for _, id := range m.Gone {
					gone[id] = true
				}
				whole = whole || m.Whole
			}
		}
		until(func() bool { return whole })
		if len(states) != 1 || states[first] != "JOB_STATE_SUCCEEDED" {
			s.Errorf("the list is %v, want job %s only", states, first)
		}
		second := submit("project=my-project")
		until(func() bool { return states[second] == "JOB_STATE_SUCCEEDED" })
		if a := s.do("DELETE", "/v1/jobs/"+first, nil); a.code != http.StatusOK {
			s.Fatalf("delete: %d %s", a.code, a.body)
		}
		until(func() bool { return gone[first] })
		if _, told := states[other]; told {
			s.Errorf("job %s of another project is in the list", other)
		}
	})
}
