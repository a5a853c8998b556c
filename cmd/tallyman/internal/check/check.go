// Package check validates a file as a job would, without a coordinator, and says how it would be cut into batches. It
// runs the coordinator's own ingest and the workers' own validation, so that it cannot disagree with them.
package check

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

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
	c := &checker{config: config, ingest: ingest.Annotations(options), parsers: startParsers(options)}
	reader := config.Limits
	reader.File, reader.Objects = config.File, true
	read, err := ingest.Run(ctx, src, ingest.Config{
		Reader:   reader,
		Cut:      config.Cut,
		Identify: c.identify,
		Unpacked: true,
	}, c)
	c.parsers.stop()
	if err != nil {
		return c.summary, fmt.Errorf("check %s: %w", config.File, err)
	}
	c.summary.Items, c.summary.Batches = read.Items, read.Batches
	c.summary.Rejected += read.Rejected
	c.summary.Valid = read.Items - c.summary.Rejected
	c.summary.Readable = read.Stopped == nil
	return c.summary, nil
}

// checker has what goes into batches validated while the ingest reads on, and reports it when the ingest commits it.
type checker struct {
	config  Config
	ingest  ingest.Identify
	parsers *parsers
	summary Summary // the committer's
}

func (c *checker) identify(it payload.Item) ingest.Identity {
	id := c.ingest(it)
	if !slices.ContainsFunc(id.Findings, isError) {
		c.parsers.add(it, id)
	}
	return id
}

func isError(f ingest.Finding) bool { return f.Severity == ingest.SeverityError }

// Commit implements ingest.Sink.
func (c *checker) Commit(_ context.Context, g *ingest.Group) error {
	var findings []ingest.Finding
	for _, v := range c.parsers.take(g.Position.Item) {
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
