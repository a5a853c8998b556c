// Package check validates a file as a job would, without a coordinator, and says how it would be cut into batches. It
// runs the coordinator's own ingest and the workers' own validation, so that it cannot disagree with them.
package check

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/server/ingest"
)

// Config says what is checked and who wants to know.
type Config struct {
	File            string // name of the file, as findings give it
	DefaultSourceDB string // for items without one
	// SourceIDFromName gives items without a sourceid the name of their file.
	SourceIDFromName bool
	Cut              ingest.CutConfig
	Limits           ingest.ReaderConfig // of what is read

	// Finding and Batch are called, if not nil, with everything that is found and with every batch, in order of the
	// file, one call at a time. An error ends the check and is returned as it is.
	Finding func(ingest.Finding) error
	Batch   func(ingest.Batch) error
}

// Summary counts what was found.
type Summary struct {
	Items       int64 `json:"items"`
	Valid       int64 `json:"valid"`    // without an error
	Rejected    int64 `json:"rejected"` // with one
	Batches     int64 `json:"batches"`
	Annotations int64 `json:"annotations"` // of the valid items, as written
	Errors      int64 `json:"errors"`      // findings
	Warnings    int64 `json:"warnings"`    // findings
	Readable    bool  `json:"readable"`    // the file could be read to its end
}

// OK reports whether a job would store every item.
func (s Summary) OK() bool { return s.Readable && s.Rejected == 0 && s.Errors == 0 }

// Run reads src to its end and closes it. What is wrong with the file is no error but a finding.
func Run(ctx context.Context, src io.ReadCloser, config Config) (Summary, error) {
	options := annotation.Options{DefaultSourceDB: config.DefaultSourceDB, SourceIDFromName: config.SourceIDFromName}
	if err := options.Validate(); err != nil {
		return Summary{}, fmt.Errorf("check %s: %w", config.File, err)
	}
	c := &checker{config: config, options: options, ingest: ingest.Annotations(options)}
	reader := config.Limits
	reader.File, reader.Objects = config.File, true
	read, err := ingest.Run(ctx, src, ingest.Config{
		Reader:   reader,
		Cut:      config.Cut,
		Identify: c.identify,
	}, c)
	if err != nil {
		return c.summary, fmt.Errorf("check %s: %w", config.File, err)
	}
	c.summary.Items, c.summary.Batches = read.Items, read.Batches
	c.summary.Rejected += read.Rejected
	c.summary.Valid = read.Items - c.summary.Rejected
	c.summary.Readable = read.Stopped == nil
	return c.summary, nil
}

// checker validates what goes into batches while the ingest reads it, and reports it when the ingest commits it.
type checker struct {
	config  Config
	options annotation.Options
	ingest  ingest.Identify
	summary Summary // the committer's

	mu    sync.Mutex
	found []validated // in batches or about to be, not yet committed
}

// validated is an item the ingest takes, with what its worker would find.
type validated struct {
	item        int64
	annotations int64 // -1 when it is rejected
	findings    []ingest.Finding
}

func (c *checker) identify(it payload.Item) ingest.Identity {
	id := c.ingest(it)
	if slices.ContainsFunc(id.Findings, isError) {
		return id
	}
	item, findings := c.options.For(it.File).Parse(it.Data)
	v := validated{item: it.Number, annotations: -1}
	if item != nil {
		v.annotations = int64(id.Annotations)
	}
	for _, f := range findings {
		severity := ingest.SeverityWarning
		if f.Severity == annotation.Error {
			severity = ingest.SeverityError
		}
		v.findings = append(v.findings, ingest.Finding{
			Code: string(f.Code), Severity: severity, File: it.File, Line: it.Line, Item: it.Number, Offset: it.Offset,
			Document: id.Document, Path: f.Path, Message: f.Message,
		})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found = append(c.found, v)
	return id
}

func isError(f ingest.Finding) bool { return f.Severity == ingest.SeverityError }

// Commit implements ingest.Sink.
func (c *checker) Commit(_ context.Context, g *ingest.Group) error {
	var findings []ingest.Finding
	for _, v := range c.take(g) {
		if v.annotations < 0 {
			c.summary.Rejected++
		} else {
			c.summary.Annotations += v.annotations
		}
		findings = append(findings, v.findings...)
	}
	for _, r := range g.Rejected {
		findings = append(findings, r.Findings...)
	}
	slices.SortStableFunc(findings, func(a, b ingest.Finding) int { return cmp.Compare(a.Item, b.Item) })
	for _, f := range slices.Concat(findings, g.Findings) {
		if isError(f) {
			c.summary.Errors++
		} else {
			c.summary.Warnings++
		}
		if c.config.Finding != nil {
			if err := c.config.Finding(f); err != nil {
				return err
			}
		}
	}
	for _, b := range g.Batches {
		if c.config.Batch != nil {
			if err := c.config.Batch(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// take returns the validated items of a group. The ingest reads ahead; what it commits comes first.
func (c *checker) take(g *ingest.Group) []validated {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := len(c.found)
	for i, v := range c.found {
		if v.item > g.Position.Item {
			end = i
			break
		}
	}
	taken := slices.Clone(c.found[:end])
	c.found = slices.Delete(c.found, 0, end)
	return taken
}
