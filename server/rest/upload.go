package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/client"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// fileField is the field of a form that has the file.
const fileField = "file"

// formMost bounds the fields of a form before its file, in bytes.
const formMost = 64 << 10

// upload takes a file as the body of a request, whatever its form, or as the field "file" of a multipart form whose other
// fields come before it. What UploadHeader says is in the query or in those fields, by the rules of the gateway. The answer
// follows the commit of the whole. An upload that was cut goes on when the same bytes are sent again, from their start, with
// the same upload_id.
func (h *handler) upload(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.drain, func() { cancel(errStopping) })()
	body := &patientBody{r.Body, ctx, http.NewResponseController(w), h.cfg.IdleTimeout}
	defer context.AfterFunc(ctx, body.interrupt)()
	header := &pb.UploadHeader{Size: max(r.ContentLength, 0)}
	content, err := contentOf(r, body, header)
	if err != nil {
		writeError(w, err)
		return
	}
	result, err := h.client.Upload(ctx, content, client.Upload{
		ID: header.GetUploadId(), Project: header.GetProject(), Kind: header.GetKind(), Mode: header.GetMode(),
		Parameters: header.GetParameters(), Labels: header.GetLabels(), Priority: header.GetPriority(), Policy: header.GetPolicy(),
		FileName: header.GetFileName(), Size: header.GetSize(),
	})
	if err != nil {
		w.Header().Set("Connection", "close") // the rest of the body is not read
		writeError(w, uploadError(ctx, err))
		return
	}
	answer, err := h.jobs.GetJob(r.Context(), &pb.GetJobRequest{JobId: result.JobID})
	if err != nil {
		writeError(w, err)
		return
	}
	job, err := compact(answer.GetJob())
	if err != nil {
		writeError(w, err)
		return
	}
	at := fmt.Sprintf("/v1/jobs/%d", result.JobID)
	w.Header().Set("Location", at)
	code := http.StatusCreated
	if result.Stopped {
		code = http.StatusUnprocessableEntity // the job's reason and findings say why
	}
	writeJSON(w, code, fmt.Appendf(nil, `{"job":%s,"url":%q,"watch_url":%q}`, job, at, at+"/watch"))
}

// contentOf returns the bytes of the file that a request carries, and fills in what is said of it.
func contentOf(r *http.Request, body io.Reader, header *pb.UploadHeader) (io.Reader, error) {
	if err := fill(header, r.URL.Query()); err != nil {
		return nil, err
	}
	kind, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "multipart/form-data" {
		return body, nil // its content decides what it is
	}
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "the type of the form: %v", err)
	}
	header.Size = 0 // the form is larger than its file
	form := multipart.NewReader(body, parameters["boundary"])
	fields := url.Values{}
	for room := int64(formMost); ; {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil, status.Errorf(codes.InvalidArgument, "the form has no field %q", fileField)
		}
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "read the form: %v", err)
		}
		if part.FormName() == fileField || part.FileName() != "" {
			if err := fill(header, fields); err != nil {
				return nil, err
			}
			if header.GetFileName() == "" {
				header.FileName = part.FileName()
			}
			return &lastPart{part, form}, nil
		}
		value, err := io.ReadAll(io.LimitReader(part, room+1))
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "read field %q of the form: %v", part.FormName(), err)
		}
		if room -= int64(len(value)); room < 0 {
			return nil, status.Errorf(codes.InvalidArgument, "the form has more than %d bytes of fields before the file", formMost)
		}
		fields.Add(part.FormName(), string(value))
	}
}

// lastPart reads a part of a form that must be the last one: the rest would be lost without a word.
type lastPart struct {
	part *multipart.Part
	form *multipart.Reader
}

var errMoreParts = status.Error(codes.InvalidArgument, "the form goes on after its file: one file is one upload, other fields come before it, "+
	"and several files are sent as an archive")

func (p *lastPart) Read(b []byte) (int, error) {
	n, err := p.part.Read(b)
	if errors.Is(err, io.EOF) {
		if _, next := p.form.NextPart(); next == nil {
			return n, errMoreParts
		} else if !errors.Is(next, io.EOF) {
			return n, next
		}
	}
	return n, err
}

// patientBody reads a body that may come slowly, but not stand still, until ctx ends.
type patientBody struct {
	io.Reader
	ctx  context.Context
	c    *http.ResponseController
	idle time.Duration
}

func (b *patientBody) Read(p []byte) (int, error) {
	if err := b.c.SetReadDeadline(time.Now().Add(b.idle)); err != nil {
		return 0, err
	}
	if b.ctx.Err() != nil { // interrupt may have come before
		return 0, context.Cause(b.ctx)
	}
	return b.Reader.Read(p)
}

// interrupt ends a Read that waits. ctx has ended.
func (b *patientBody) interrupt() {
	_ = b.c.SetReadDeadline(time.Unix(1, 0)) // of a connection that is gone
}

var errStopping = status.Error(codes.Unavailable, "the coordinator is stopping; the upload goes on when the same is sent again with its "+
	"upload_id")

// uploadError tells an error that is not the coordinator's from those that are.
func uploadError(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStopping) {
		return errStopping
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Errorf(codes.Aborted, "the upload was cut, and goes on when the same is sent again with its upload_id: %v", err)
}
