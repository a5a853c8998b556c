package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/internal/retry"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

const (
	// defaultChunk is what fits, with the rest of its message, into the largest buffers that gRPC uses again, on either
	// side. It clears them each time, so that smaller chunks cost more.
	defaultChunk = 1<<20 - 1<<10

	defaultKeep = 64 << 20
)

// Upload says what is sent and what is to be done with it. Only Project is required, and that only for kind
// annotations.
type Upload struct {
	ID         string            // names the upload, for resuming it; a random one when empty
	New        bool              // nobody has used ID before: what is small is sent without waiting for where to begin
	Project    string            // owns the annotations: 5 to 40 of a-z, 0-9, "_" and "-"
	Kind       string            // handler the batches need; default annotations
	Mode       string            // default replace
	Parameters map[string]string // for the handler
	Labels     map[string]string // for people
	Priority   int32             // higher is done first; -100 to 100
	Policy     *tallymanv1.Policy
	FileName   string // as findings give it; default upload
	Size       int64  // bytes that will be sent; found out for a source that can seek, otherwise 0 for unknown

	// Progress is called with every answer of the coordinator, one call at a time. It must not block for long, since
	// the upload waits for it.
	Progress func(UploadProgress)

	ChunkBytes int // bytes sent at once, at most 1 MiB; default 1 KiB less
	// KeepBytes bounds what is kept of a source that cannot seek, so that it can be sent again after a cut connection: what
	// is not committed yet, which is a few MiB mostly, and everything of any but plain JSON Lines, which is sent again from its
	// start. Default 64 MiB.
	KeepBytes int64
}

// UploadProgress says how far an upload is.
type UploadProgress struct {
	UploadID  string
	JobID     int64
	Committed int64 // bytes that are safe
	Size      int64 // bytes in all; 0 when unknown
	Items     int64 // found so far
	Batches   int64 // cut so far
}

// UploadResult is what became of an upload. With an error it holds what was known until then.
type UploadResult struct {
	UploadProgress
	// Stopped says that the job takes no more items, because it was stopped or the file cannot be read; the job's
	// reason and findings say which.
	Stopped bool
}

// Validate reports the first field that cannot be used. What the coordinator decides is left to it.
func (u Upload) Validate() error {
	switch {
	case u.ChunkBytes < 0 || u.ChunkBytes > tallymanv1.MaxChunk:
		return fmt.Errorf("chunk of %d bytes: must be 1 to %d", u.ChunkBytes, tallymanv1.MaxChunk)
	case u.KeepBytes < 0:
		return fmt.Errorf("keep %d bytes: must not be negative", u.KeepBytes)
	case u.Size < 0:
		return fmt.Errorf("size of %d bytes: must not be negative", u.Size)
	}
	return nil
}

// Upload sends all of r and returns when it is committed; the job is then being worked on, or has even ended. An
// upload that was interrupted, in this process or another, goes on when it is called again with the same ID and r at
// the beginning of the same content. UPLOAD_MISMATCH, UPLOAD_CHANGED, UPLOAD_FENCED, INVALID_ARGUMENT.
//
// After a cut connection it resumes by itself, at another coordinator if there is one: from r, if r is an io.Seeker that
// can seek, otherwise from what it kept. While the coordinator's database is away or full, or the client has as many
// uploads open as it may, it waits. It gives up when nothing has got anywhere for Config.RetryFor; the upload can still be
// resumed, for as long as the coordinator keeps it open (its setting upload-timeout).
//
// Upload does not close r, and returns only when a Read in progress has returned; close r to interrupt one.
func (c *Client) Upload(ctx context.Context, r io.Reader, u Upload) (UploadResult, error) {
	if err := u.Validate(); err != nil {
		return UploadResult{}, fmt.Errorf("upload: %w", err)
	}
	if u.ID == "" {
		u.ID, u.New = uuid.NewString(), true
	}
	if u.ChunkBytes == 0 {
		u.ChunkBytes = defaultChunk
	}
	if u.KeepBytes == 0 {
		u.KeepBytes = defaultKeep
	}
	source, size, err := newSource(r, u.ChunkBytes, u.KeepBytes)
	if err != nil {
		return UploadResult{}, fmt.Errorf("upload %s: %w", u.FileName, err)
	}
	if u.Size == 0 {
		u.Size = size
	}
	operation := "upload"
	if u.FileName != "" {
		operation += " " + u.FileName
	}
	up := &uploader{client: c, upload: u, source: source, again: c.repeat(operation)}
	up.atOnce = u.New && 0 < size && size <= min(atOnceBytes, int64(u.ChunkBytes))
	up.result.UploadID, up.result.Size = u.ID, u.Size
	for {
		err := up.stream(ctx)
		if err == nil {
			return up.result, nil
		}
		if local, ok := errors.AsType[*sourceError](err); ok {
			return up.result, fmt.Errorf("%s: %w", operation, local.err)
		}
		if up.fencedItself(err) {
			err = errLateStream
		}
		if err := up.again.after(ctx, err); err != nil {
			return up.result, err
		}
	}
}

// uploader is one call of Upload. Its result is written by whoever receives.
type uploader struct {
	client *Client
	upload Upload
	source source
	again  *repetition
	result UploadResult
	same   bool // the source is known to begin with what the coordinator has
	// atOnce says that nobody has heard of the upload yet, and all of it is sent without waiting for what the coordinator
	// says to that: which is where to begin, and can only be the beginning.
	atOnce bool
	// doubtful is how many streams of this call ended before their header was answered. Each of them may still be opened,
	// by a coordinator that was frozen for example, and then ends the one that is in use.
	doubtful int
}

// atOnceBytes bounds what is sent before anything was answered: less than a stream takes without being read.
const atOnceBytes = 32 << 10

// errLateStream is what the end of a stream by an earlier one of the same call means.
var errLateStream = status.Error(codes.Unavailable, "an earlier try of this upload was opened late and took its place")

// fencedItself reports whether a stream may have been ended by one of the doubtful: each of them can do that once. What
// remains was opened by somebody else, who has the right to it.
func (u *uploader) fencedItself(err error) bool {
	if u.doubtful == 0 || tallymanv1.ReasonOf(err) != tallymanv1.ErrorReason_ERROR_REASON_UPLOAD_FENCED {
		return false
	}
	u.doubtful--
	return true
}

// stream sends, in one stream, what is not yet committed. Without error the upload is complete.
func (u *uploader) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := u.client.jobs.SubmitUpload(ctx)
	if err != nil {
		return err
	}
	watchdog := time.AfterFunc(u.client.config.CallTimeout, func() { cancel(retry.ErrSilent) })
	defer watchdog.Stop()
	put(stream, &tallymanv1.SubmitUploadRequest{Message: &tallymanv1.SubmitUploadRequest_Header{Header: u.header()}})
	sent := u.atOnce
	if u.atOnce = false; sent {
		if err := u.send(stream, 0, nil); err != nil {
			return err
		}
	}
	first, err := stream.Recv()
	watchdog.Stop()
	if err != nil {
		if tallymanv1.ReasonOf(err) == tallymanv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
			u.doubtful++
		}
		return retry.Blame(ctx, fromEOF(err))
	}
	u.again.answered()
	if err := u.sameFile(first); err != nil {
		return err
	}
	if finished := u.heard(first); finished {
		return nil
	}
	if sent {
		return u.receive(stream)
	}
	received := make(chan error, 1)
	go func() { received <- u.receive(stream) }()
	if err := u.send(stream, first.GetResumeOffset(), received); err != nil {
		cancel(nil)
		if <-received == nil {
			return nil // nothing more of the source was wanted
		}
		return err
	}
	return <-received
}

// sameFile makes sure, in the first stream of a call, that the source begins with what an earlier call has uploaded, and
// is no longer than that if the upload is complete.
func (u *uploader) sameFile(first *tallymanv1.SubmitUploadResponse) error {
	if u.same || first.GetJobStopped() {
		u.same = true
		return nil
	}
	if len(first.GetResumeSha256()) == 0 {
		// Nothing is committed, or it is not plain JSON Lines, and then compared as it is sent again. When it is complete it is
		// not, and only a file that is too short is noticed: of a longer one the rest may not have been wanted.
		u.same = !first.GetFinished() || u.upload.Size == 0 || u.upload.Size >= first.GetCommittedOffset()
		return u.changed(first)
	}
	sum, err := u.source.digest(first.GetResumeOffset())
	if err != nil && !errors.Is(err, io.EOF) {
		return &sourceError{err}
	}
	u.same = err == nil && bytes.Equal(sum, first.GetResumeSha256())
	if u.same && first.GetFinished() {
		data, err := u.source.next()
		if err != nil && !errors.Is(err, io.EOF) {
			return &sourceError{err}
		}
		u.same = len(data) == 0
	}
	return u.changed(first)
}

// changed refuses a source that is not the same.
func (u *uploader) changed(first *tallymanv1.SubmitUploadResponse) error {
	if u.same {
		return nil
	}
	changed := status.New(codes.FailedPrecondition, fmt.Sprintf("this is not the file of which %d bytes were uploaded as %s "+
		"before; send it as an upload of its own, or resume that one with its own file", first.GetCommittedOffset(), u.upload.ID))
	if with, err := changed.WithDetails(tallymanv1.ErrorReason_ERROR_REASON_UPLOAD_CHANGED.Info(nil)); err == nil {
		changed = with
	}
	return changed.Err()
}

func (u *uploader) header() *tallymanv1.UploadHeader {
	return &tallymanv1.UploadHeader{
		UploadId:   u.upload.ID,
		Project:    u.upload.Project,
		Kind:       u.upload.Kind,
		Mode:       u.upload.Mode,
		Parameters: u.upload.Parameters,
		Labels:     u.upload.Labels,
		Priority:   u.upload.Priority,
		Policy:     u.upload.Policy,
		FileName:   u.upload.FileName,
		Size:       u.upload.Size,
	}
}

// uploadStream is what an uploader needs of the generated stream.
type uploadStream interface {
	Send(*tallymanv1.SubmitUploadRequest) error
	Recv() (*tallymanv1.SubmitUploadResponse, error)
	CloseSend() error
}

// send sends everything from offset on, unless the stream ends before, as received says if there is a receiver. Only errors of the source are its own; those of
// the stream are the receiver's.
func (u *uploader) send(stream uploadStream, offset int64, received chan error) error {
	if err := u.source.seek(offset); err != nil {
		return &sourceError{err}
	}
	for end := false; !end; {
		select {
		case err := <-received:
			received <- err
			return nil
		default:
		}
		data, err := u.source.next()
		end = errors.Is(err, io.EOF)
		if err != nil && !end {
			return &sourceError{err}
		}
		if len(data) == 0 {
			continue
		}
		chunk := &tallymanv1.UploadChunk{Offset: offset, Data: data}
		if !put(stream, &tallymanv1.SubmitUploadRequest{Message: &tallymanv1.SubmitUploadRequest_Chunk{Chunk: chunk}}) {
			return nil
		}
		offset += int64(len(data))
	}
	finish := &tallymanv1.UploadFinish{Size: offset}
	if put(stream, &tallymanv1.SubmitUploadRequest{Message: &tallymanv1.SubmitUploadRequest_Finish{Finish: finish}}) {
		_ = stream.CloseSend() // what fails here fails in the receiver
	}
	return nil
}

// put sends a message and reports whether the stream goes on. If not, Recv says why; Send does not.
func put(stream uploadStream, message *tallymanv1.SubmitUploadRequest) bool {
	return stream.Send(message) == nil
}

// receive takes the answers of a stream until it ends. Without error the upload is complete.
func (u *uploader) receive(stream uploadStream) error {
	for {
		response, err := stream.Recv()
		if err != nil {
			return fromEOF(err)
		}
		if finished := u.heard(response); finished {
			return nil
		}
	}
}

// heard takes one answer and reports whether it is the last.
func (u *uploader) heard(response *tallymanv1.SubmitUploadResponse) bool {
	before := u.result
	u.result.JobID = response.GetJobId()
	u.result.Committed = max(before.Committed, response.GetCommittedOffset())
	u.result.Items = max(before.Items, response.GetItems())
	u.result.Batches = max(before.Batches, response.GetBatches())
	u.result.Stopped = response.GetJobStopped()
	u.source.release(u.result.Committed)
	// A stream that is opened, answered and cut again and again has not got anywhere.
	if before.JobID == 0 || u.result.Committed > before.Committed || u.result.Items > before.Items {
		u.again.progressed()
	}
	if u.upload.Progress != nil {
		u.upload.Progress(u.result.UploadProgress)
	}
	return response.GetFinished()
}

func fromEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return status.Error(codes.Unavailable, "the coordinator ended the stream before the upload was committed")
	}
	return err
}
