//go:build linux

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/client"
)

const (
	rulesFolder   = "../deploy/prometheus"
	dashboardFile = "../deploy/grafana/tallyman.json"
)

// metricName finds the metrics of this program, and of gRPC, in expressions.
var metricName = regexp.MustCompile(`\b(?:tallyman|grpc_server)_[a-z0-9_]+`)

// sampleName finds the name in a line of a scrape.
var sampleName = regexp.MustCompile(`(?m)^([a-z_0-9]+)(?:\{| )`)

// scraped returns the names of all series that a process serves.
func scraped(t testing.TB, url string) map[string]bool {
	t.Helper()
	answer, err := http.Get(url) //nolint:gosec // of a process of this test
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s answered %s: %v", url, answer.Status, err)
	}
	names := map[string]bool{}
	for _, m := range sampleName.FindAllStringSubmatch(string(text), -1) {
		names[m[1]] = true
	}
	return names
}

// expressions returns those of the rules and of the dashboard, by where they stand.
func expressions(t testing.TB) map[string]string {
	t.Helper()
	found := map[string]string{}
	rules, err := os.ReadFile(filepath.Join(rulesFolder, "tallyman.rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	found["the rules"] = string(rules)
	data, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] || len(p.Targets) == 0 {
			t.Errorf("panel %q has no target, or the id of another", p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			if !metricName.MatchString(target.Expr) {
				t.Errorf("panel %q shows none of our metrics: %s", p.Title, target.Expr)
			}
			found["panel "+p.Title] += target.Expr + "\n"
		}
	}
	return found
}

// Rules, dashboard and documentation name only what a coordinator on PostgreSQL and a worker serve.
func TestMetricsThatAreNamedAreServed(t *testing.T) {
	t.Parallel()
	s := postgresSite(t)
	server := s.serve("--http", "127.0.0.1:0")
	var http []string
	eventually(t, startTimeout, "the coordinator to say where it serves HTTP", func() bool {
		http = servesHTTP.FindStringSubmatch(server.stdout.String())
		return http != nil
	})
	worker := s.work("metered", "--metrics", ":0")
	servesMetrics := regexp.MustCompile(`msg="metrics are served" address=(127\.0\.0\.1:\d+)`)
	var at []string
	eventually(t, startTimeout, "the worker to say where its metrics are", func() bool {
		at = servesMetrics.FindStringSubmatch(worker.stderr.String())
		return at != nil
	})
	path := filepath.Join(t.TempDir(), "one.jsonl")
	if err := os.WriteFile(path, []byte(`{"sourcedb":"PubMed","sourceid":"1","text":"a text","denotations":[]}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.await(s.upload(path, client.Upload{Project: "metered"}))
	names := scraped(t, http[1]+"/metrics")
	for name := range scraped(t, "http://"+at[1]+"/metrics") {
		names[name] = true
	}
	unknown := func(text string) (missing []string) {
		for _, name := range metricName.FindAllString(text, -1) {
			if !names[name] && !names[name+"_count"] && !slices.Contains(missing, name) {
				missing = append(missing, name)
			}
		}
		return missing
	}
	for where, text := range expressions(t) {
		if missing := unknown(text); len(missing) > 0 {
			t.Errorf("%s: nobody serves %v", where, missing)
		}
	}
	document, err := os.ReadFile("../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	if missing := unknown(string(document)); len(missing) > 0 {
		t.Errorf("docs/monitoring.md: nobody serves %v", missing)
	}
	for name := range names {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "tallyman_") && !strings.Contains(string(document), base) {
			t.Errorf("docs/monitoring.md says nothing of %s", name)
		}
	}
}

// The rules are rules, and raise alarms when they should and not when they should not.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("SKIPPED: no promtool on the PATH, so that the rules in deploy/prometheus are not checked; it is in Debian's package prometheus")
	}
	for _, args := range [][]string{{"check", "rules", "tallyman.rules.yaml"}, {"test", "rules", "tallyman.rules.test.yaml"}} {
		check := exec.CommandContext(t.Context(), promtool, args...)
		check.Dir = rulesFolder
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	// Every alert is tried, and explained.
	rules, err := os.ReadFile(filepath.Join(rulesFolder, "tallyman.rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(rulesFolder, "tallyman.rules.test.yaml"), "../docs/monitoring.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
			if !strings.Contains(string(text), m[1]) {
				t.Errorf("%s says nothing of %s", file, m[1])
			}
		}
	}
}
