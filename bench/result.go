package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Metric is one number that was measured.
type Metric struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Result is what a scenario measured on an engine in one round.
type Result struct {
	Scenario string            `json:"scenario"`
	Engine   string            `json:"engine"`
	Settings map[string]string `json:"settings"`
	Metrics  []Metric          `json:"metrics"`
}

func (r *Result) add(name string, value float64, unit string) {
	r.Metrics = append(r.Metrics, Metric{name, value, unit})
}

// Distribution adds what is usually asked of many durations, in milliseconds.
func (r *Result) Distribution(name string, took []time.Duration) {
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	for _, q := range []struct {
		name string
		q    float64
	}{{"p50", 0.5}, {"p99", 0.99}, {"max", 1}} {
		r.add(name+" "+q.name, quantile(took, q.q).Seconds()*1e3, "ms")
	}
}

// quantile returns the smallest of the sorted durations that at least a share q of them do not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// Row is a metric of a scenario on an engine over all rounds.
type Row struct {
	Scenario string  `json:"scenario"`
	Engine   string  `json:"engine"`
	Metric   string  `json:"metric"`
	Unit     string  `json:"unit"`
	Median   float64 `json:"median"`
	Least    float64 `json:"least"`
	Most     float64 `json:"most"`
	Rounds   int     `json:"rounds"`
}

// Rows sums rounds up, in the order in which the metrics first came.
func Rows(results []Result) []Row {
	type key struct{ scenario, engine, metric string }
	values := map[key][]float64{}
	var rows []Row
	for _, r := range results {
		for _, m := range r.Metrics {
			k := key{r.Scenario, r.Engine, m.Name}
			if values[k] == nil {
				rows = append(rows, Row{Scenario: r.Scenario, Engine: r.Engine, Metric: m.Name, Unit: m.Unit})
			}
			values[k] = append(values[k], m.Value)
		}
	}
	for i := range rows {
		row := &rows[i]
		all := values[key{row.Scenario, row.Engine, row.Metric}]
		slices.Sort(all)
		row.Least, row.Most, row.Rounds = all[0], all[len(all)-1], len(all)
		row.Median = (all[(len(all)-1)/2] + all[len(all)/2]) / 2
	}
	return rows
}

// WriteTable writes rows for people.
func WriteTable(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "scenario\tengine\tmetric\tmedian\tleast\tmost\trounds\t unit\t")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t %s\t\n", r.Scenario, r.Engine, r.Metric,
			number(r.Median), number(r.Least), number(r.Most), r.Rounds, r.Unit)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

// Report is the whole of a run, for programs.
type Report struct {
	Machine Machine  `json:"machine"`
	Version string   `json:"version"`
	Started string   `json:"started"` // RFC 3339
	Rows    []Row    `json:"rows"`
	Results []Result `json:"results"` // each round, in order

	Versions map[string]string `json:"versions,omitempty"` // of what else took part, by name
}

// WriteJSON writes the report as one JSON value.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// Write writes the report as JSON into a file, unless its path is "", and to w as JSON or as a table.
func (r Report) Write(w io.Writer, path string, asJSON bool) error {
	if path != "" {
		var b bytes.Buffer
		if err := r.WriteJSON(&b); err != nil {
			return err
		}
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if asJSON {
		return r.WriteJSON(w)
	}
	return WriteTable(w, r.Rows)
}

// number writes a number with three digits that matter, and all of those before the point.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100 || a == 0:
		return thousands(fmt.Sprintf("%.0f", v))
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func thousands(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	var groups []string
	for ; len(digits) > 3; digits = digits[:len(digits)-3] {
		groups = append(groups, digits[len(digits)-3:])
	}
	groups = append(groups, digits)
	slices.Reverse(groups)
	return sign + strings.Join(groups, ",")
}
