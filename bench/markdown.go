package bench

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// WriteMarkdown writes the report as sections for a document, one for each scenario, with what it was run on before them.
func (r Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	started, _, _ := strings.Cut(r.Started, "T")
	fmt.Fprintf(&b, "Version %s, %s, on %s, %d cores, %s, %s; load before it began %s.", cmp.Or(r.Version, "unknown"),
		started, cmp.Or(r.Machine.CPU, "an unknown processor"), r.Machine.Cores, r.Machine.System, r.Machine.Go, number(r.Machine.Load))
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(&b, " %s: %s.", name, r.Versions[name])
	}
	b.WriteString("\n")
	scenario := ""
	for _, row := range r.Rows {
		if row.Scenario != scenario {
			scenario = row.Scenario
			fmt.Fprintf(&b, "\n#### %s\n", scenario)
			if settings := r.settings(scenario); settings != "" {
				fmt.Fprintf(&b, "\n%s\n", settings)
			}
			b.WriteString("\n| on | | median | least | most | rounds | |\n| --- | --- | ---: | ---: | ---: | ---: | --- |\n")
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %d | %s |\n", row.Engine, row.Metric, number(row.Median), number(row.Least),
			number(row.Most), row.Rounds, row.Unit)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// settings says with what a scenario was run; "" if nobody said.
func (r Report) settings(scenario string) string {
	var parts []string
	for _, result := range r.Results {
		if result.Scenario != scenario || len(result.Settings) == 0 {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(result.Settings)) {
			parts = append(parts, name+" "+result.Settings[name])
		}
		break
	}
	return strings.Join(parts, ", ")
}
