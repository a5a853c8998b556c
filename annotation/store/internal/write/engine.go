// Package write stores items in any engine: it cuts them into transactions, decides what each changes, retries what
// passes and sets apart what fails for its own reason. An engine only reads and applies.
package write

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/ids"
	"github.com/tallyman-dev/tallyman/annotation/store/internal/passages"
)

// Engine is a database.
type Engine interface {
	// Raise raises the fence of the lease's batch to its attempt and closes those of its ancestors, in one transaction.
	Raise(ctx context.Context, lease store.Lease) error

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
	Transient              // try again: deadlock, busy, connection lost, disk full
	Refused                // a row was not acceptable: find out whose it was
)

// Tx is a transaction. After an error only Rollback may be called.
type Tx interface {
	// Load takes the fence of the lease's batch, ErrFenced if it is not at the lease's attempt, creates the documents that
	// are unknown from their drafts, locks all of them in key order, and returns what is known.
	Load(ctx context.Context, lease store.Lease, job store.Job, items []int64, drafts []Draft) (State, error)

	// Texts returns the texts of documents, in the order asked for.
	Texts(ctx context.Context, documents []int64) ([]string, error)

	// Holders returns the annotations that have one of the names, parallel to the queries.
	Holders(ctx context.Context, queries []Names) ([][]*ids.Claim, error)

	// Commit applies changes and commits, unless the deadline has passed by then: ErrFenced. The deadline is asked for at
	// the last moment. An error that is not ErrFenced leaves open whether the commit took place.
	Commit(ctx context.Context, changes *Changes, deadline func() time.Time) error

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
}

// State is what a store knows of items and documents.
type State struct {
	Decided   map[int64]store.Result // by item number, of the job
	Documents []Document             // parallel to the drafts
}

// Document is what a store knows of a document.
type Document struct {
	ID         int64
	Created    bool // by this transaction, from its draft
	Same       bool // its text is the draft's
	Length     int
	Bytes      int // of the text
	ComposedBy int64
	Home       int64 // the document in the job's project; an unused id if the project does not have it
	HomeKnown  bool
	ReplacedBy int64             // the job that last replaced the home's annotations
	Anchors    []passages.Anchor // of the job's items, in order
}

// Changes is what a transaction writes. The order of the fields is that in which an engine applies them.
type Changes struct {
	Job        store.Job
	Texts      []Text
	Insertions []Insertion       // for the items of other jobs
	Moved      []passages.Anchor // items of the job that begin elsewhere
	Replaced   []int64           // homes whose annotations of earlier jobs go, and that this job has replaced from now on
	Renamed    []Rename
	Homes      []Home
	Items      []Row
	Spans      []Span
	Relations  []Relation
	Attributes []Attribute
}

// Text is a new text of a document.
type Text struct {
	Document int64
	Draft
}

// Insertion says that a document's text grew before At. Those of one document are by falling At. Items of other jobs
// that begin there or behind move; of those that end behind it, the length grows, and what they say behind it moves.
type Insertion struct {
	Document int64
	passages.Insertion
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

// Row is what became of an item.
type Row struct {
	Item     int64
	Outcome  annotation.Outcome
	Findings string // JSON; empty: none
	Document int64  // 0: its text is in none
	Home     int64  // 0: nothing of it is stored
	Begin    int
	Length   int
}

// Of is the part that rows of annotations have in common.
type Of struct {
	Home    int64
	Item    int64
	Ordinal int
	ID      string
	Given   string // the id in the item, if it is another; else empty
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
	Subj, Pred, Obj string
}

// Attribute is a row of an attribute.
type Attribute struct {
	Of
	OfRelation bool
	Subj, Pred string
	Obj        string // JSON
}
