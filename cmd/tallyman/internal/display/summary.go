package display

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// maxGrouped bounds the findings that are read to group them, so that a summary never takes long.
const maxGrouped = 100_000

// Group is what the findings of one code have in common.
type Group struct {
	Severity tallymanv1.Severity
	Code     string
	Count    int64
	Example  *tallymanv1.Finding // the first
}

// ofFile reports whether the findings are about the file, which is not read further, and not about items.
func (g Group) ofFile() bool { return g.Example.GetItem() == 0 }

// Groups are the findings of a job by code: those about the file first, then errors before warnings, the most
// frequent first.
type Groups struct {
	Groups []Group
	Read   int64
	More   bool // there are findings that were not read

	Culprits []*tallymanv1.Finding // items that killed workers, the first of them
	Crashed  int64                 // all of them
}

// itemCrashed is the code of the finding that names an item which killed its worker.
const itemCrashed = "ITEM_CRASHED"

// maxCulprits is how many culprits a summary names.
const maxCulprits = 10

// GroupFindings reads findings, at most 100,000, and groups them.
func GroupFindings(findings iter.Seq2[*tallymanv1.Finding, error]) (Groups, error) {
	type key struct {
		severity tallymanv1.Severity
		code     string
		ofFile   bool
	}
	var all Groups
	index := make(map[key]int)
	for f, err := range findings {
		if err != nil {
			return all, err
		}
		if all.Read == maxGrouped {
			all.More = true
			break
		}
		all.Read++
		if f.GetCode() == itemCrashed {
			if all.Crashed++; all.Crashed <= maxCulprits {
				all.Culprits = append(all.Culprits, f)
			}
			continue
		}
		k := key{f.GetSeverity(), f.GetCode(), f.GetItem() == 0}
		i, ok := index[k]
		if !ok {
			i = len(all.Groups)
			index[k] = i
			all.Groups = append(all.Groups, Group{Severity: k.severity, Code: k.code, Example: f})
		}
		all.Groups[i].Count++
	}
	slices.SortStableFunc(all.Groups, func(a, b Group) int {
		if a.ofFile() != b.ofFile() {
			if a.ofFile() {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code))
	})
	return all, nil
}

// maxFailures is how many failures a summary names.
const maxFailures = 3

// Summary writes what became of a job that has ended: every item by its outcome, every batch by its state, why batches
// failed, and the findings by code with an example each.
func Summary(w io.Writer, job *tallymanv1.Job, findings Groups, failures []*tallymanv1.FailureGroup) error {
	p := job.GetProgress()
	var b strings.Builder
	fmt.Fprintf(&b, "job %d %s after %s: %s", job.GetJobId(), spaced(JobState(job.GetState())),
		between(job.GetSubmittedAt(), job.GetEndedAt()), Clean(job.GetFileName()))
	if job.GetProject() != "" {
		fmt.Fprintf(&b, " into project %s", job.GetProject())
	}
	b.WriteByte('\n')
	if job.GetReason() != "" {
		fmt.Fprintf(&b, "  %s\n", Clean(job.GetReason()))
	}
	tab := newTab(&b)
	fmt.Fprintf(tab, "  items\t%s\n", Number(p.GetItemsTotal()))
	for _, c := range p.GetItemsByOutcome() {
		fmt.Fprintf(tab, "    %s\t%s\n", spaced(Outcome(c.GetOutcome())), Number(c.GetItems()))
	}
	if open := p.GetItemsOpen(); open > 0 {
		fmt.Fprintf(tab, "    open\t%s\n", Number(open))
	}
	var batches int64
	for _, c := range p.GetBatchesByState() {
		if c.GetState() != tallymanv1.BatchState_BATCH_STATE_SPLIT { // its parts count
			batches += c.GetBatches()
		}
	}
	fmt.Fprintf(tab, "  batches\t%s\n", Number(batches))
	for _, c := range p.GetBatchesByState() {
		fmt.Fprintf(tab, "    %s\t%s\n", spaced(BatchState(c.GetState())), Number(c.GetBatches()))
	}
	fmt.Fprintf(tab, "  annotations\t%s\n", Number(p.GetAnnotations()))
	without := ""
	if n := Failed(p); n > 0 {
		without = fmt.Sprintf(", and %s that failed with their batches", Plural(n, "item"))
	}
	fmt.Fprintf(tab, "  findings\t%s, %s%s\n", Plural(p.GetErrors(), "error"), Plural(p.GetWarnings(), "warning"), without)
	if err := flushTab(tab); err != nil {
		return err
	}
	items := slices.IndexFunc(findings.Groups, func(g Group) bool { return !g.ofFile() })
	if items < 0 {
		items = len(findings.Groups)
	}
	for _, g := range findings.Groups[:items] {
		unread := ""
		if g.Severity == tallymanv1.Severity_SEVERITY_ERROR {
			unread = " nothing was read from here on:"
		}
		fmt.Fprintf(&b, "    %s %s:%s %s\n", Severity(g.Severity), g.Code, unread, example(g.Example))
	}
	if findings.Crashed > 0 && !crashed(p) {
		findings.Crashed = 0 // they were tried again since, and did not
	}
	if findings.Crashed > 0 {
		whose := "their workers"
		if findings.Crashed == 1 {
			whose = "its worker"
		}
		fmt.Fprintf(&b, "    %s that killed %s:\n", Plural(findings.Crashed, "item"), whose)
		for _, f := range findings.Culprits {
			fmt.Fprintf(&b, "      %s\n", strings.ReplaceAll(example(f), "\n", "\n  "))
		}
		if more := findings.Crashed - int64(len(findings.Culprits)); more > 0 {
			fmt.Fprintf(&b, "      and %s more\n", Number(more))
		}
	}
	if findings.Crashed > 0 { // what these died of is said already
		failures = slices.DeleteFunc(slices.Clone(failures), func(f *tallymanv1.FailureGroup) bool {
			return f.GetEnd() == tallymanv1.AttemptEnd_ATTEMPT_END_DIED
		})
	}
	for _, f := range failures[:min(len(failures), maxFailures)] {
		fmt.Fprintf(&b, "    %s %s, as in batch %d:\n        %s\n", Plural(f.GetAttempts(), "attempt"),
			AttemptEnd(f.GetEnd()), f.GetExampleBatchId(), Clean(f.GetMessage()))
	}
	for _, g := range findings.Groups[items:] {
		fmt.Fprintf(&b, "    %s × %s %s, as in %s\n", Number(g.Count), Severity(g.Severity), g.Code, example(g.Example))
	}
	if findings.More {
		fmt.Fprintf(&b, "    (of the first %s findings)\n", Number(findings.Read))
	}
	return write(w, []byte(b.String()))
}

// Failed returns how many items failed with their batches. They have no findings: that would be a row for every item, about
// one reason.
func Failed(p *tallymanv1.Progress) int64 {
	for _, c := range p.GetItemsByOutcome() {
		if c.GetOutcome() == tallymanv1.Outcome_OUTCOME_FAILED {
			return c.GetItems()
		}
	}
	return 0
}

// errorsOf returns how much is wrong with a job: what was found, and each item that failed without a finding.
func errorsOf(p *tallymanv1.Progress) int64 { return p.GetErrors() + Failed(p) }

// crashed reports whether items are crashed as it is now.
func crashed(p *tallymanv1.Progress) bool {
	return slices.ContainsFunc(p.GetItemsByOutcome(), func(c *tallymanv1.OutcomeCount) bool {
		return c.GetOutcome() == tallymanv1.Outcome_OUTCOME_CRASHED
	})
}

// example gives a finding with its exact place.
func example(f *tallymanv1.Finding) string {
	var about []string
	if f.GetItem() > 0 {
		about = append(about, "item "+Number(f.GetItem()))
	}
	about = append(about, "byte "+number(f.GetOffset()))
	if f.GetDocument() != "" {
		about = append(about, Clean(f.GetDocument()))
	}
	text := fmt.Sprintf("%s (%s)", Clean(place(f)), strings.Join(about, ", "))
	if f.GetPath() != "" {
		text += " at " + Clean(f.GetPath())
	}
	return text + ":\n        " + Clean(f.GetMessage())
}
