package main

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	const good = `{"state":"JOB_STATE_COMPLETED_WITH_ERRORS","progress":{"items_total":"10","items_ended":"10",
		"items_by_outcome":[{"outcome":"OUTCOME_STORED","items":"7"},{"outcome":"OUTCOME_STORED_WITH_WARNINGS","items":"1"},
		{"outcome":"OUTCOME_REJECTED","items":"2"}]}}
`
	if err := check(strings.NewReader(good), 10, 2); err != nil {
		t.Errorf("what adds up is refused: %v", err)
	}
	for name, edit := range map[string]*strings.Replacer{
		"no job":            strings.NewReplacer(good, ""),
		"two jobs":          strings.NewReplacer(good, good+good),
		"no JSON":           strings.NewReplacer(good, `1 job`),
		"state":             strings.NewReplacer("COMPLETED_WITH_ERRORS", "SUCCEEDED"),
		"total":             strings.NewReplacer(`"items_total":"10"`, `"items_total":"11"`),
		"open items":        strings.NewReplacer(`"items_ended":"10"`, `"items_ended":"9"`),
		"sum too small":     strings.NewReplacer(`"items":"7"`, `"items":"6"`),
		"failed not stored": strings.NewReplacer("OUTCOME_STORED_WITH_WARNINGS", "OUTCOME_FAILED"),
		"rejected":          strings.NewReplacer(`"OUTCOME_REJECTED","items":"2"`, `"OUTCOME_REJECTED","items":"3"`, `"items":"7"`, `"items":"6"`),
	} {
		if err := check(strings.NewReader(edit.Replace(good)), 10, 2); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}
