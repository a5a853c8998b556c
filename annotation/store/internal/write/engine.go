// Package write stores items in any engine: it cuts them into transactions, decides what each changes, retries what
// passes and sets apart what fails for its own reason. An engine only reads and applies.
package write

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/align"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/ids"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/passages"
)

// Engine is a database.
type Engine interface {
	// Raise raises the fence of the lease's batch to its attempt and closes those of its ancestors, in one transaction.
	Raise(ctx context.Context, lease store.Lease) error

	// Unknown returns those of the keys, in their order, that no document has. It waits for no transaction.
	Unknown(ctx context.Context, keys []annotation.Key) ([]annotation.Key, error)

	// Jobs returns, in order, up to limit numbers above after of jobs that Forget would find something of.
	Jobs(ctx context.Context, after int64, limit int) ([]int64, error)

	// Forget removes up to limit rows that are kept for jobs, fences first, in one transaction, and reports whether there
	// may be more.
	Forget(ctx context.Context, jobs []int64, limit int) (bool, error)

	// Begin opens a transaction. The caller ends it by Commit or Rollback.
	Begin(ctx context.Context) (Tx, error)

	// Fault says what an error of the engine means, and of one that is Refused the reason, in words that may leave the
	// store: nothing of a driver, nor of the item.
	Fault(err error) (fault Fault, reason string)
}

// Fault says what to do about an error.
type Fault uint8

// The faults.
const (
	Broken    Fault = iota // give up: damaged, misused
	Transient              // try again: deadlock, busy, connection lost
	Full                   // the same, but not for long: the disk is full, and somebody has to make room
	Refused                // a row was not acceptable: find out whose it was
)

// Tx is a transaction. After an error only Rollback may be called.
type Tx interface {
	// Load takes the fence of the lease's batch, ErrFenced if it is not at the lease's attempt, creates the documents that
	// are unknown from their drafts, locks all of them in key order, and returns what is known. The items are in order.
	Load(ctx context.Context, lease store.Lease, job store.Job, items []int64, drafts []Draft) (State, error)

	// Texts returns the texts of documents, in the order asked for.
	Texts(ctx context.Context, documents []int64) ([]string, error)

	// Anchors returns the places of the items of all jobs in each of the documents, in order of jobs and item numbers.
	Anchors(ctx context.Context, documents []int64) ([][]Anchor, error)

	// Merging returns, for each of the documents, the homes in which it has annotations of a job in mode merge, whatever
	// their project.
	Merging(ctx context.Context, documents []int64) ([][]int64, error)

	// Contents returns all annotations of homes, in any order.
	Contents(ctx context.Context, homes []int64) ([]Content, error)

	// Holders returns the annotations that have one of the names, parallel to the queries.
	Holders(ctx context.Context, queries []Names) ([][]*ids.Claim, error)

	// Commit applies changes and commits, unless the deadline has passed by then: ErrFenced. The deadline is asked for at
	// the last moment. An error that is not ErrFenced leaves open whether the commit took place.
	Commit(ctx context.Context, changes *Changes, deadline func() time.Time) error

	// Busy returns, after the commit, how long the transaction had what others may have waited for.
	Busy() time.Duration

	// Rollback gives the transaction up, if it is not committed. It does not wait for ctx of earlier calls.
	Rollback()
}

// Names asks who has ids in a document of a project.
type Names struct {
	Home  int64
	Names []ids.Name
}

// Draft is a document as it will be if it is unknown. Drafts are in key order.
type Draft struct {
	Key    annotation.Key
	Text   string
	Length int
	Hash   [sha256.Size]byte // of Text
	Given  bool              // no job composes Text
}

// Composer returns the job that composes the text of a document that is created from the draft; 0: it is given.
func (d *Draft) Composer(job int64) int64 {
	if d.Given {
		return 0
	}
	return job
}

// State is what a store knows of items and documents.
type State struct {
	Decided   map[int64]store.Result // by item number, of the job
	Documents []Document             // parallel to the drafts
}

// Document is what a store knows of a document.
type Document struct {
	ID            int64
	Created       bool // by this transaction, from its draft
	Same          bool // its text is the draft's
	Length        int
	ComposedBy    int64 // the lowest job whose items make up the text; 0: it is given
	ComposedUntil int64 // the highest
	Home          int64 // the document in the job's project; an unused id if the project does not have it
	HomeKnown     bool
	ReplacedBy    int64             // the job that last replaced the home's annotations; 0: none
	LastJob       int64             // the highest that stored in the home
	MergedBy      int64             // the highest in mode merge that did; 0: none
	Anchors       []passages.Anchor // of the job's items, in order

	// For a job in mode skip only.
	Annotated   bool // the home has annotations
	SkipDecided bool
	Skip        bool // the decision
}

// Anchor is a place in a document and the job of its item.
type Anchor struct {
	Job int64
	passages.Anchor
}

// Changes is what a transaction writes. The order of the fields is that in which an engine applies them.
type Changes struct {
	Job        store.Job
	Dropped    []int64 // documents that this transaction created and that nothing is stored of
	Texts      []Text
	Moved      []Anchor // items that begin elsewhere
	Replaced   []int64  // homes whose annotations of earlier jobs go, and that this job has replaced from now on
	Removed    []Name
	Renamed    []Rename
	Homes      []Home
	Used       []int64 // homes that were there and that this job stores in, unless they are among Replaced
	Skips      []Skip
	Items      []Row
	Spans      []Span
	Relations  []Relation
	Attributes []Attribute
}

// Text is a new text of a document, and the jobs that compose it.
type Text struct {
	Document      int64
	ComposedBy    int64
	ComposedUntil int64
	Draft
}

// Name is an annotation.
type Name struct {
	Home int64
	ids.Name
}

// Rename gives an annotation another id, to which the references inside its item follow. Of several, one may take the id
// that another gives up, inside an item too.
type Rename struct {
	Home     int64
	From, To string
	Claim    *ids.Claim
}

// Home is a document that is new in the project.
type Home struct {
	ID       int64
	Key      annotation.Key
	Document int64
}

// Skip is what a job in mode skip decides about a home.
type Skip struct {
	Home int64
	Skip bool
}

// Row is what became of an item.
type Row struct {
	Item     int64
	Outcome  annotation.Outcome
	Findings string // JSON; empty: none
	Document int64  // 0: its text is in none
	Home     int64  // 0: nothing of it is stored
	Begin    int
	Length   int
	Level    align.Level // how its text lies there; Exact if it does not
}

// Traits says how an annotation came to be. It is a set.
type Traits uint8

// The traits.
const (
	Unnamed Traits = 1 << iota // its author gave it no id
	Merging                    // its job is in mode merge
	Merged                     // it is merged into an equal one that comes before it, and not shown
)

// Of is the part that rows of annotations have in common.
type Of struct {
	Home    int64
	Job     int64
	Item    int64
	Ordinal int
	ID      string
	Given   string // the id in the item, if it is another; else empty
	Traits  Traits
}

// Span is a row of a denotation or block.
type Span struct {
	Of
	Block      bool
	Begin, End int // from the beginning of the item's text
	Obj        string
}

// Relation is a row of a relation.
type Relation struct {
	Of
	Subj, Pred, Obj     string
	GivenSubj, GivenObj string // in the item; empty unless Merging
}

// Attribute is a row of an attribute.
type Attribute struct {
	Of
	OfRelation bool
	Subj, Pred string
	Obj        string // JSON
	GivenSubj  string // in the item; empty unless Merging
}

// Content is what a project says about a document.
type Content struct {
	Spans      []PlacedSpan
	Relations  []Relation
	Attributes []Attribute
}

// PlacedSpan is a stored span and where the text of its item begins.
type PlacedSpan struct {
	Span
	At int
}
