package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/tallyman-dev/tallyman/annotation"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/ingest"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// errInterrupted says that the client's stream ended before its finish message.
var errInterrupted = errors.New("the upload was interrupted")

func (s *jobService) GetUpload(ctx context.Context, r *pb.GetUploadRequest) (*pb.GetUploadResponse, error) {
	up, err := s.cfg.Store.GetUpload(ctx, r.GetUploadId())
	if errors.Is(err, store.ErrNotFound) {
		err = uploadNotFound(r.GetUploadId())
	}
	if err != nil {
		return nil, err
	}
	return &pb.GetUploadResponse{Upload: toUpload(&up)}, nil
}

func toUpload(up *store.Upload) *pb.SubmitUploadResponse {
	offset := resumeOffset(up.Position)
	committed := offset
	if up.Finished {
		committed = up.Position.Received
	}
	return &pb.SubmitUploadResponse{
		JobId: up.JobID, ResumeOffset: offset, ResumeSha256: resumeDigest(up.Position), CommittedOffset: committed, Items: up.Items, Batches: up.Batches,
		Finished: up.Finished || up.State.Stopping(), JobStopped: stopped(up.State),
	}
}

// stopped reports whether a job was stopped: it took no more items, or some of those it took were not done.
func stopped(s job.State) bool { return s == job.Cancelling || s == job.Cancelled || s == job.Failed }

// resumeDigest is what the client proves by that it has the same file. A hash that cannot be read proves nothing.
func resumeDigest(p store.Position) []byte {
	if p.Encoding != "" || p.Offset == 0 {
		return nil
	}
	digest, err := ingest.Position{Hash: p.Hash}.Digest()
	if err != nil {
		return nil
	}
	return digest[:]
}

// resumeOffset is where a client must go on, in bytes of the file as it sends it: anything but plain JSON Lines from its
// start, since it can be read from nowhere else.
func resumeOffset(p store.Position) int64 {
	if p.Encoding != "" {
		return 0
	}
	return p.Offset
}

type uploadStream = grpc.BidiStreamingServer[pb.SubmitUploadRequest, pb.SubmitUploadResponse]

func (s *jobService) SubmitUpload(stream uploadStream) error {
	ctx, done := s.draining(stream.Context())
	defer done()
	first, err := recv(ctx, stream.Recv)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return invalid("header", "the first message of an upload must be its header")
		}
		return err
	}
	h := first.GetHeader()
	if h == nil {
		return invalid("header", "the first message of an upload must be its header")
	}
	if most := cmp.Or(s.cfg.Reader.MaxBytes, ingest.DefaultMaxBytes); h.GetSize() > most {
		return invalid("header.size", "%d bytes are more than the coordinator's setting %s permits: %d",
			h.GetSize(), ingest.SettingMaxBytes, most)
	}
	n := newJob(h)
	leave, err := s.uploads.enter(access.By(ctx).Name, n.UploadID)
	if err != nil {
		return err
	}
	defer leave()
	up, err := s.cfg.Store.OpenUpload(ctx, n)
	if err != nil {
		return err
	}
	s.cfg.Events.Changed(up.JobID, false)
	answer := toUpload(&up)
	if err := stream.Send(answer); err != nil || answer.Finished {
		return err
	}
	ctx, stop := s.keep(ctx, &up)
	defer stop()
	in := receive(stream, n.FileName, answer.ResumeOffset, s.cfg.Meter)
	sink := &uploadSink{stream: stream, services: s.Services, up: up, in: in, answer: answer}
	cut := ingest.CutConfig{
		Weight: int(n.Policy.BatchWeight), Items: int(n.Policy.BatchItems), Bytes: n.Policy.BatchBytes,
	}
	identify := ingest.Values
	if n.Kind == pb.KindAnnotations {
		identify = ingest.Annotations(annotation.Options{
			DefaultSourceDB: n.Policy.DefaultSourceDB, SourceIDFromName: n.Policy.SourceIDFromName,
		})
	} else if cut.Items == 0 {
		cut.Items = 500
	}
	reader := s.cfg.Reader
	reader.File, reader.Objects = n.FileName, n.Kind == pb.KindAnnotations
	reader.Resume = ingest.Position{
		Offset: up.Position.Offset, Line: up.Position.Line, Item: up.Position.Item,
		Encoding: ingest.Encoding(up.Position.Encoding), Hash: up.Position.Hash,
	}
	_, err = ingest.Run(ctx, in, ingest.Config{Reader: reader, Cut: cut, Identify: identify}, sink)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, store.ErrJobStopped):
		sink.answer.Finished, sink.answer.JobStopped = true, true
		return stream.Send(sink.answer)
	case errors.Is(err, ingest.ErrUploadChanged):
		return fail(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_UPLOAD_CHANGED,
			"the file is not the one whose beginning was uploaded before; send it under a new upload_id")
	case errors.Is(err, errInterrupted):
		return fail(codes.Aborted, pb.ErrorReason_ERROR_REASON_UPLOAD_INTERRUPTED,
			"the stream ended without finish; open a new one with the same upload_id to go on")
	}
	return err
}

// newJob reads a valid header.
func newJob(h *pb.UploadHeader) store.NewJob {
	return store.NewJob{
		UploadID: h.GetUploadId(), Project: strings.ToLower(h.GetProject()),
		Kind: cmp.Or(h.GetKind(), pb.KindAnnotations), Mode: cmp.Or(h.GetMode(), pb.ModeReplace),
		Parameters: h.GetParameters(), Labels: h.GetLabels(), Priority: h.GetPriority(),
		FileName: cmp.Or(h.GetFileName(), "upload"), Size: h.GetSize(), Policy: fromPolicy(h.GetPolicy()),
	}
}

// uploadSink commits the groups of one upload and tells the client. Its methods are called one at a time.
type uploadSink struct {
	stream   uploadStream
	services *Services
	up       store.Upload
	in       *received
	answer   *pb.SubmitUploadResponse
}

var _ ingest.Sink = (*uploadSink)(nil)

// Commit implements ingest.Sink.
func (k *uploadSink) Commit(ctx context.Context, g *ingest.Group) error {
	position := store.Position{
		Offset: g.Position.Offset, Received: g.Position.Offset, Line: g.Position.Line, Item: g.Position.Item,
		Hash: g.Position.Hash,
	}
	if e := g.Position.Encoding; e != ingest.Plain {
		// A resumed upload starts over with its first byte; progress does not.
		position.Encoding, position.Received = string(e), max(k.in.bytes.Load(), k.up.Position.Received)
	}
	group := store.IngestGroup{
		JobID: k.up.JobID, Epoch: k.up.Epoch, Position: position, Finished: g.Last,
		Findings: fromIngest(g),
	}
	for _, b := range g.Batches {
		group.Batches = append(group.Batches, store.NewBatch{
			FirstItem: b.FirstItem, Items: int32(b.Items), Weight: int32(b.Weight),
			Annotations: int32(b.Annotations), Frame: b.Frame, Documents: b.Documents,
		})
	}
	if len(g.Rejected) > 0 {
		group.Rejected = []store.RejectedItems{{
			FirstItem: g.Rejected[0].Item.Number, Items: int32(len(g.Rejected)), Frame: g.RejectedFrame,
		}}
	}
	if g.Last && position.Item == 0 {
		// Nothing at all came out of the file.
		for _, f := range g.Findings {
			if f.Severity == ingest.SeverityError {
				group.Fail = fmt.Sprintf("%s cannot be read: %s", f.File, f.Message)
			}
		}
		if group.Fail == "" {
			group.Findings = append(group.Findings, store.Finding{
				Severity: store.Warning, Code: "EMPTY_UPLOAD", File: k.in.file, Line: 1,
				Message: "the file has no items: it is empty or has blank lines only",
			})
		}
	}
	if err := k.services.cfg.Store.CommitIngest(ctx, group); err != nil {
		return err
	}
	k.services.cfg.Meter.Ingested(position.Item-k.up.Position.Item, int64(len(g.Batches)))
	k.services.cfg.Events.Changed(k.up.JobID, g.Last)
	if len(g.Batches) > 0 {
		k.services.cfg.Dispatcher.Wake(k.up.JobID)
	}
	if group.Fail != "" {
		k.services.cfg.Events.Stopping(k.up.JobID)
	}
	k.up.Position = position
	k.up.Items = position.Item
	k.up.Batches += int64(len(g.Batches))
	k.up.Finished = g.Last
	k.answer = toUpload(&k.up)
	k.answer.JobStopped = group.Fail != ""
	return k.stream.Send(k.answer)
}

func fromIngest(g *ingest.Group) []store.Finding {
	var out []store.Finding
	add := func(findings []ingest.Finding) {
		for _, f := range findings {
			severity := store.Error
			if f.Severity == ingest.SeverityWarning {
				severity = store.Warning
			}
			out = append(out, store.Finding{
				Item: f.Item, Severity: severity, Code: f.Code, File: f.File, Line: f.Line, Offset: f.Offset,
				Document: f.Document, Path: f.Path, Message: f.Message,
			})
		}
	}
	for _, r := range g.Rejected {
		add(r.Findings)
	}
	add(g.Findings)
	return out
}

// received is the bytes of an upload's chunks as a reader. A goroutine of its own takes the messages from the stream, one
// ahead of what is read; it ends with the stream at the latest, which is when the call returns.
type received struct {
	file   string
	meter  Meter
	bytes  atomic.Int64
	chunks chan []byte
	err    error // once chunks is closed
	rest   []byte

	closed chan struct{}
	close  sync.Once
}

func receive(stream uploadStream, file string, offset int64, meter Meter) *received {
	in := &received{file: file, meter: meter, chunks: make(chan []byte, 1), closed: make(chan struct{})}
	in.bytes.Store(offset)
	go func() {
		defer close(in.chunks)
		in.err = cmp.Or(in.pump(stream), io.EOF)
	}()
	return in
}

// Read implements io.Reader. It returns what there is of one chunk.
func (r *received) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		select {
		case chunk, ok := <-r.chunks:
			if !ok {
				return 0, r.err
			}
			r.rest = chunk
		case <-r.closed:
			return 0, io.ErrClosedPipe
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close ends a Read that blocks, and what would come after it.
func (r *received) Close() error {
	r.close.Do(func() { close(r.closed) })
	return nil
}

// pump returns nil after a finish message.
func (r *received) pump(stream uploadStream) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			// Not wrapped: to a reader, a stream's io.EOF would be the end of the file.
			return fmt.Errorf("%w: %s", errInterrupted, err.Error())
		}
		at := r.bytes.Load()
		switch x := m.GetMessage().(type) {
		case *pb.SubmitUploadRequest_Chunk:
			if x.Chunk.GetOffset() != at {
				return gap("chunk.offset", x.Chunk.GetOffset(), at)
			}
			r.bytes.Add(int64(len(x.Chunk.GetData())))
			r.meter.Received(len(x.Chunk.GetData()))
			select {
			case r.chunks <- x.Chunk.GetData():
			case <-r.closed:
				return io.ErrClosedPipe
			}
		case *pb.SubmitUploadRequest_Finish:
			if x.Finish.GetSize() != at {
				return gap("finish.size", x.Finish.GetSize(), at)
			}
			return nil
		default:
			return invalid("message", "must be a chunk or finish after the header")
		}
	}
}

func gap(field string, got, want int64) error {
	return fail(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_OFFSET_GAP, "%s is %d, the next byte expected is %d",
		field, got, want)
}
