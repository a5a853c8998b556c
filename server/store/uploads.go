package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
)

// NewJob is what an upload's header says of its job.
type NewJob struct {
	UploadID   string
	Project    string
	Kind       string
	Mode       string
	Parameters map[string]string
	Labels     map[string]string
	Priority   int32
	FileName   string
	Size       int64
	Policy     job.Policy
}

// Upload is where an upload stands.
type Upload struct {
	JobID    int64
	UploadID string
	Epoch    int64 // of the stream that may add to it
	Position Position
	Items    int64 // counted so far
	Batches  int64
	Finished bool
	State    job.State
}

// Position is up to where an upload is committed.
type Position struct {
	Offset   int64  // bytes of the decompressed input
	Received int64  // bytes as received, for progress
	Line     int64  // lines before Offset
	Item     int64  // items before Offset, rejected ones included
	Batch    int32  // batches cut; the store counts them itself
	Document string // of the item before Offset
	Hash     []byte // state of the hash over the input before Offset
	Encoding string // "" when the input is plain, so that Offset is one in the file as sent; else "gzip", "zstd", …
}

// NewBatch is a batch as ingest cut it.
type NewBatch struct {
	FirstItem   int64 // number of its first item; numbers inside may have gaps where items were rejected
	Items       int32
	Weight      int32
	Annotations int32
	Frame       []byte   // its payload
	Documents   []string // distinct document keys in order of appearance
}

// RejectedItems is a frame of items that ingest rejected.
type RejectedItems struct {
	FirstItem int64
	Items     int32
	Frame     []byte
}

// IngestGroup is what ingest commits at once.
type IngestGroup struct {
	JobID    int64
	Epoch    int64
	Batches  []NewBatch
	Rejected []RejectedItems
	Findings []Finding
	Position Position // after this group
	Finished bool     // nothing follows
	Fail     string   // not "": the upload cannot be read; the job stops as failed with this reason
}

// Uploads is what ingest needs.
type Uploads interface {
	// OpenUpload creates the job and the upload, or, when the upload id is known, opens it again: the epoch grows and
	// streams of before can add nothing any more. A finished upload is returned as it is. ErrUploadMismatch when
	// project, kind or mode differ from the first header's.
	OpenUpload(ctx context.Context, n NewJob) (Upload, error)
	// GetUpload returns where an upload stands. ErrNotFound.
	GetUpload(ctx context.Context, uploadID string) (Upload, error)
	// CommitIngest adds a group, on the condition that its epoch is the upload's; ErrUploadFenced otherwise, or when
	// the upload is finished. In one transaction: batches with ordinals from Position.Batch of the row on, payloads,
	// document keys, rejected items, findings, the position, and a delta. When the job is being stopped, or has ended, the
	// group changes nothing and ErrJobStopped is returned. A group that was committed before, known by its Position (or, the
	// last one, by Finished), changes nothing and succeeds; a Position before the committed one is an error.
	CommitIngest(ctx context.Context, g IngestGroup) error
	// KeepUpload notes that the stream which opened the upload in this epoch stands. ErrUploadFenced when a newer one was
	// opened.
	KeepUpload(ctx context.Context, jobID, epoch int64) error
	// AbandonUploads stops as failed, with Abandoned as the reason, the running jobs of unfinished uploads into which
	// nothing was committed, and which nobody opened or kept, for idle. Those of paused jobs wait, and have the whole time
	// again when their job is resumed. It returns their job ids.
	AbandonUploads(ctx context.Context, idle time.Duration) ([]int64, error)
}

// Abandoned is why the job of an upload ends that was interrupted and not resumed, and what can be done about it.
func Abandoned(idle time.Duration) string {
	return fmt.Sprintf("the upload was interrupted and not resumed within %v (the coordinator's setting upload-timeout); "+
		"send the file again, as a new upload", idle)
}

// ErrJobStopped says that a job takes no more items since it is being stopped or has ended.
var ErrJobStopped = errors.New("the job is being stopped or has ended")
