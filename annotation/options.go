package annotation

import (
	"errors"
	"fmt"
	"strings"
)

// The limits that zero fields of [Options] stand for.
const (
	DefaultMaxItemBytes = 64 << 20
	DefaultMaxDepth     = 100
	DefaultMaxFindings  = 100
)

// maxMaxDepth is the nesting that the JSON decoder itself gives up at.
const maxMaxDepth = 10_000

// Options says how items are read. The zero value works and has the limits that the documentation promises. Options is
// safe for concurrent use.
type Options struct {
	DefaultSourceDB string // takes the place of an absent or null sourcedb; empty: none does
	DefaultSourceID string // takes the place of an absent or null sourceid; empty: none does
	// SourceIDFromName makes DefaultSourceID, for each file, of its name; see [Options.For].
	SourceIDFromName bool
	MaxItemBytes     int // an item longer than this is rejected unread
	MaxDepth         int // of nested objects and arrays; the item itself is at depth 1
	MaxFindings      int // per item; one more finding says how many there are besides
}

// Validate returns an error that names every field which cannot be used.
func (o Options) Validate() error {
	var errs []error
	if o.DefaultSourceDB != "" {
		if _, problem := canonicalSourceDB(o.DefaultSourceDB); problem != "" {
			errs = append(errs, fmt.Errorf("default sourcedb %s %s", quote(o.DefaultSourceDB), problem))
		}
	}
	if o.MaxItemBytes < 0 {
		errs = append(errs, fmt.Errorf("max item bytes %d is negative", o.MaxItemBytes))
	}
	if o.MaxDepth < 0 || o.MaxDepth > maxMaxDepth {
		errs = append(errs, fmt.Errorf("max depth %d is not between 0 and %d", o.MaxDepth, maxMaxDepth))
	}
	if o.MaxFindings < 0 {
		errs = append(errs, fmt.Errorf("max findings %d is negative", o.MaxFindings))
	}
	return errors.Join(errs...)
}

// For returns the options for the items of a file, by its place in the upload: archive.tgz!dir/12345.json.gz. With
// SourceIDFromName the DefaultSourceID is its base name without the extensions of the forms that files come in, 12345.
// Other dots belong to the name.
func (o Options) For(file string) Options {
	if !o.SourceIDFromName {
		return o
	}
	name := file[strings.LastIndexAny(file, "!/")+1:]
	for {
		bare := name
		for _, extension := range extensions {
			if n := len(name) - len(extension); n > 0 && strings.EqualFold(name[n:], extension) {
				bare = name[:n]
			}
		}
		if bare == name {
			break
		}
		name = bare
	}
	o.DefaultSourceID = strings.TrimSpace(name)
	return o
}

// extensions are those that say how a file is written, and nothing about its content.
var extensions = []string{
	".json", ".jsonl", ".ndjson", ".gz", ".gzip", ".zst", ".zstd", ".tar", ".tgz", ".tzst", ".zip",
}

func (o Options) withDefaults() Options {
	if o.MaxItemBytes <= 0 {
		o.MaxItemBytes = DefaultMaxItemBytes
	}
	if o.MaxDepth <= 0 {
		o.MaxDepth = DefaultMaxDepth
	}
	if o.MaxFindings <= 0 {
		o.MaxFindings = DefaultMaxFindings
	}
	return o
}
