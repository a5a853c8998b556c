// Package store is where annotations are kept: documents with their texts, and what each project says about them. This
// package says what a store does; packages postgres and sqlite do it, and package open chooses between them.
//
// # What is promised
//
//   - Every item is decided once. Its first answer is kept with it; storing it again, by whatever worker or attempt, gives
//     that answer and changes nothing.
//   - All changes that an item makes lie in one transaction: nothing of an item is half stored, and of a document nothing
//     is half replaced.
//   - Only the latest attempt of a batch writes, and only while its lease lasts; see [Lease].
//   - What the items of jobs leave behind does not depend on the order in which they come, on how they are cut into
//     batches, nor on how many workers store them at once: it is that of the jobs one after the other, in order of their
//     numbers. Two things do depend on it: mode skip looks at a document when the job first touches it, and where an
//     item takes an id that another item's annotation had until then, the answer of the later to arrive says so.
//     Where texts of documents are given ([Given]), all that store their items must be given the same ones.
//
// docs/annotation-store.md has the tables, the rules and queries to read them by.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/tallyman-dev/tallyman/annotation"
)

// The modes: what storing an item does to the annotations that the project has on its document.
const (
	ModeReplace = "replace" // those of earlier jobs are removed
	ModeAdd     = "add"     // they stay
	ModeMerge   = "merge"   // they stay, and what is there already is not stored twice
	ModeSkip    = "skip"    // if there are any when the job first touches the document, its items on it are not stored
)

// Modes are all modes; the first is the usual one.
func Modes() []string { return []string{ModeReplace, ModeAdd, ModeMerge, ModeSkip} }

// Lease is the right of one attempt to write the items of one batch.
type Lease struct {
	Batch   int64
	Attempt int32
	Job     int64 // that the batch belongs to

	// Deadline returns when the lease ends as known now, by this process's monotonic clock. Renewals move it. It is called
	// at any time from any goroutine, and must not be nil.
	Deadline func() time.Time

	// Ancestors are the batches that this one was split from. None of their attempts may write any more.
	Ancestors []int64
}

// Job is the upload that items belong to.
type Job struct {
	ID      int64 // positive; a job with a greater number was submitted later
	Project string
	Mode    string // one of Modes

	// MinAlignment is the share of an item's code points outside white space that must align with the text of its document
	// where that does not hold it: above 0, up to 1. 0 means DefaultMinAlignment.
	MinAlignment float64

	// Overlaps reports whether another job, submitted before this one, had not ended by then, so that items of both may
	// come at the same time: what they bring of an unknown document belongs together. Nil: none had not. It is called
	// while no transaction is open; its error ends the call.
	Overlaps func(ctx context.Context, other int64) (bool, error)
}

// Entry is an item to be stored.
type Entry struct {
	Number   int64 // of the item in its upload; positive
	Item     *annotation.Item
	Warnings []annotation.Finding // of its validation; they are kept with its answer

	// Given is what a source says of the item's document, nil if none was asked. It counts only where the store does not
	// know the document; all entries of one document have the same.
	Given *Given
}

// Given is what a source says of a document: its text, whatever items say of it, or why it has none.
type Given struct {
	Text   string // empty if the source has none
	Length int    // of Text, in code points

	// Missing is an error that says why there is no text. It is a finding of each of the document's items, whose outcome is
	// DocumentMissing.
	Missing annotation.Finding
}

// Result is what became of an item. It is final.
type Result struct {
	Outcome  annotation.Outcome // Stored, StoredWarnings, Rejected, Skipped or DocumentMissing
	Findings []annotation.Finding
}

// The codes of findings that storing gives.
const (
	TextMismatch     annotation.Code = "TEXT_MISMATCH"      // rejects: too little of the item's text aligns with the document's
	DocumentTooLarge annotation.Code = "DOCUMENT_TOO_LARGE" // rejects: the passages would exceed MaxDocumentBytes
	StoreRefused     annotation.Code = "STORE_REFUSED"      // rejects: the database does not take the item as it is
	Superseded       annotation.Code = "SUPERSEDED"         // warns: a later job has replaced the document's annotations
	IDChanged        annotation.Code = "ID_CHANGED"         // warns: an id was taken, so an annotation has another one
	SurfaceChanged   annotation.Code = "SURFACE_CHANGED"    // warns: where an annotation lies the document says something else
	SpanLost         annotation.Code = "SPAN_LOST"          // an error, of an item that is stored: a denotation or block of it is not
	ReferenceLost    annotation.Code = "REFERENCE_LOST"     // the same: a relation or attribute of what is lost is not

	// Of items whose document is missing.
	DocumentMissing annotation.Code = "DOCUMENT_MISSING" // its source does not have it
	SourceRefused   annotation.Code = "SOURCE_REFUSED"   // its source answers the request for it with an error, or nothing usable
)

// DefaultMinAlignment is the share of an item's code points outside white space that must align with the text of its
// document, if a job does not say otherwise.
const DefaultMinAlignment = 0.3

// MaxAlignedBytes bounds the texts that are aligned, of an item and of a document. What is longer must be equal or contained.
const MaxAlignedBytes = 64 << 20

// MaxDocumentBytes bounds the text of a document.
const MaxDocumentBytes = 256 << 20

var (
	// ErrFenced is returned when a lease no longer gives the right to write: a later attempt has started, the batch was
	// split, or the lease has run out. Nothing is written after it.
	ErrFenced = errors.New("the lease is lost")

	// ErrUnavailable is returned when the database could not be reached, has no room, or did not get further, for as long as
	// is tried.
	// It says nothing about the items.
	ErrUnavailable = errors.New("the annotation store is unavailable")

	// ErrOwner is returned when the store belongs to another coordinator's database.
	ErrOwner = errors.New("the annotation store belongs to another coordinator database")
)

// Store is an open annotation store. It is safe for concurrent use.
type Store interface {
	Reader

	// Writer returns a writer for the jobs of the coordinator database with this id. The first one ever makes the store
	// belong to that database; a later one with another id gets ErrOwner. Any number of writers may be open, in any
	// number of processes.
	Writer(ctx context.Context, cluster string) (Writer, error)

	// Close waits for calls to end and closes the store with its writers.
	Close() error
}

// Writer stores items. It is safe for concurrent use; calls for the same batch should not overlap, since they would
// only wait for each other.
type Writer interface {
	// Begin starts an attempt: from then on no earlier attempt of the batch writes, and none of its ancestors. It waits
	// for transactions of theirs that are under way. Repeating it changes nothing. ErrFenced: a later attempt has begun,
	// or the batch itself was split.
	Begin(ctx context.Context, lease Lease) error

	// Unknown returns those of the keys, in the order given, whose documents the store does not know. It waits for no
	// transaction. Its errors are those of Store, but for ErrFenced.
	Unknown(ctx context.Context, keys []annotation.Key) ([]annotation.Key, error)

	// Store stores items, which must be in order of their numbers, in as few transactions as keep each of them short. After
	// each it calls durable, which may be nil, with the results of the entries that have become durable, in order; the
	// slice is the callee's. It returns nil when all have been reported, or the first error: ErrFenced, ErrUnavailable, the
	// cause of ctx when that ended, or another if the store is damaged. What was reported is final even so. Failures that
	// pass are retried inside, for about half a minute and not beyond the lease. An item that the database refuses for
	// what it is becomes Rejected and its neighbors are stored.
	Store(ctx context.Context, lease Lease, job Job, entries []Entry, durable func([]Result)) error

	// Jobs returns, in order, the numbers of jobs for which something is kept that Forget would remove: at most limit of
	// those above after. It reads little more than it returns, however much there is of each.
	Jobs(ctx context.Context, after int64, limit int) ([]int64, error)

	// Forget removes what is only kept for jobs that may still write: the fences and the first answers of those named, which
	// must be gone for good. A fence is also what tells an attempt that its time is over, so no attempt of these jobs may
	// still hold a lease by its own clock. What they have stored stays where it is. One call removes about limit rows, a fraction of a
	// second's work for a thousand, and reports whether there are more. It may be repeated, also after an error.
	//
	// The text of a document that other jobs compose together with a forgotten one is final from then on.
	Forget(ctx context.Context, jobs []int64, limit int) (more bool, err error)

	// Close releases the writer; calls after it are an error.
	Close() error
}

// Reader reads what projects say. It sees what is committed, a document at a time: of a document either all or nothing
// of what an item brought.
type Reader interface {
	// Export calls yield with every document of a project, in order of sourcedb and sourceid (by bytes), as one item each:
	// offsets are those in the document's text, ids those of the document, and every collection is in order of job, item
	// number and the order within the item. Documents whose annotations were cleared come with empty collections. It uses
	// A relation that an attribute is about and whose id a denotation or block has, too, is given another id, so that what is
	// exported means the same when it is stored again. It uses memory for a bounded number of documents. An error of yield ends it and is returned as it is. An unknown project
	// has no documents.
	Export(ctx context.Context, project string, yield func(*annotation.Item) error) error

	// Count counts what a project has. It reads all of it.
	Count(ctx context.Context, project string) (Counts, error)
}

// Counts are the numbers of a project.
type Counts struct {
	Documents   int64
	Denotations int64
	Blocks      int64
	Relations   int64
	Attributes  int64
}

// Annotations returns the number of annotations of all kinds.
func (c Counts) Annotations() int64 { return c.Denotations + c.Blocks + c.Relations + c.Attributes }
