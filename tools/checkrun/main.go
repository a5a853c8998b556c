// Command checkrun reads what `tallyman jobs -o json` prints and fails unless it shows exactly one job whose numbers
// add up: the items that went in, all of them with an outcome, and as many rejected as were bad.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	items := flag.Int64("items", 0, "items in the uploaded file")
	rejected := flag.Int64("rejected", 0, "bad items among them")
	flag.Parse()
	if err := check(os.Stdin, *items, *rejected); err != nil {
		fmt.Fprintln(os.Stderr, "checkrun:", err)
		os.Exit(1)
	}
	fmt.Printf("checked: %d items, each with one outcome, the %d bad ones rejected\n", *items, *rejected)
}

// The parts of the output that matter here. 64-bit numbers are strings in the JSON form of protocol buffers.
type (
	job struct {
		State    string   `json:"state"`
		Progress progress `json:"progress"`
	}
	progress struct {
		Items    int64          `json:"items_total,string"`
		Ended    int64          `json:"items_ended,string"`
		Outcomes []outcomeCount `json:"items_by_outcome"`
	}
	outcomeCount struct {
		Outcome string `json:"outcome"`
		Items   int64  `json:"items,string"`
	}
)

func check(r io.Reader, items, rejected int64) error {
	var jobs []job
	for decoder := json.NewDecoder(r); decoder.More(); { // an object a line
		var j job
		if err := decoder.Decode(&j); err != nil {
			return fmt.Errorf("read jobs: %w", err)
		}
		jobs = append(jobs, j)
	}
	if len(jobs) != 1 {
		return fmt.Errorf("there are %d jobs, want 1", len(jobs))
	}
	j := jobs[0]
	by := map[string]int64{}
	var sum int64
	for _, o := range j.Progress.Outcomes {
		by[o.Outcome] += o.Items
		sum += o.Items
	}
	var errs []error
	want := func(what string, got, want int64) {
		if got != want {
			errs = append(errs, fmt.Errorf("%s: %d, want %d", what, got, want))
		}
	}
	if j.State != "JOB_STATE_COMPLETED_WITH_ERRORS" {
		errs = append(errs, fmt.Errorf("the job's state is %s", j.State))
	}
	want("items", j.Progress.Items, items)
	want("items that ended", j.Progress.Ended, items)
	want("sum of outcomes", sum, items)
	want("rejected items", by["OUTCOME_REJECTED"], rejected)
	want("stored items", by["OUTCOME_STORED"]+by["OUTCOME_STORED_WITH_WARNINGS"], items-rejected)
	return errors.Join(errs...)
}
