package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/client"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/ingest"
	"github.com/tallyman-dev/tallyman/server/store"
)

// refused opens an upload that must be refused, and returns why.
func (c *coordinator) refused(h *pb.UploadHeader) error {
	c.t.Helper()
	stream, err := c.jobs.SubmitUpload(c.ctx)
	c.must(err)
	c.must(stream.Send(&pb.SubmitUploadRequest{Message: &pb.SubmitUploadRequest_Header{Header: h}}))
	m, err := stream.Recv()
	if err == nil {
		c.t.Errorf("upload %s was answered %v", h.GetUploadId(), m)
	}
	return err
}

func TestOpenUploadsOfAClientAreBounded(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database, MaxOpenUploads: 2}, nil)
		first, second := c.open(c.ctx, header("first")), c.open(c.ctx, header("second"))
		for range 2 {
			err := c.refused(header("third"))
			c.wantError("a third upload", err, codes.ResourceExhausted, "TOO_MANY_UPLOADS")
			var setting string
			for _, d := range status.Convert(err).Details() {
				if info, ok := d.(*errdetails.ErrorInfo); ok {
					setting = info.GetMetadata()["setting"]
				}
			}
			if want := "max-open-uploads"; setting != want || !strings.Contains(err.Error(), want) {
				t.Errorf("the refusal names %q: %v", setting, err)
			}
		}
		_, err := c.jobs.GetUpload(c.ctx, &pb.GetUploadRequest{UploadId: "third"})
		c.wantError("what was refused", err, codes.NotFound, "UPLOAD_NOT_FOUND")

		again := c.open(c.ctx, header("first")) // is no third one
		first.chunk(lines(1, 10))
		c.wantError("the older stream", first.failure(), codes.Aborted, "UPLOAD_FENCED")
		c.wantError("a third, still", c.refused(header("third")), codes.ResourceExhausted, "TOO_MANY_UPLOADS")
		second.chunk(lines(1, 1))
		second.end()
		third := c.open(c.ctx, header("third"))
		third.chunk(lines(1, 1))
		third.end()
		again.chunk(lines(1, 1))
		again.end()
		for i := range 3 { // nothing is left of those that have ended
			c.submit(header(fmt.Sprint("later-", i)), lines(1, 1))
		}
	})
}

// TestClientWaitsForAnUploadToEnd has the library find the limit reached, and go on when there is room.
func TestClientWaitsForAnUploadToEnd(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database, MaxOpenUploads: 1}, nil)
		other := c.open(c.ctx, header("other"))
		other.chunk(lines(1, 1))
		done := make(chan error, 1)
		go func() {
			submitter, err := client.New(client.Config{Conn: c.conn})
			if err == nil {
				_, err = submitter.Upload(c.ctx, bytes.NewReader(lines(1, 3)), client.Upload{Kind: "probe"})
			}
			done <- err
		}()
		pass(30 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("the upload ended with %v while there was no room", err)
		default:
		}
		other.end()
		c.must(<-done)
	})
}

func TestUploadLargerThanTheLimitIsRefusedAtOnce(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database, Reader: ingest.ReaderConfig{MaxBytes: 100}}, nil)
		h := header("large")
		h.Size = 101
		err := c.refused(h)
		c.wantError("the announced size", err, codes.InvalidArgument, "INVALID_ARGUMENT")
		if !strings.Contains(err.Error(), ingest.SettingMaxBytes) {
			t.Errorf("the setting is not named: %v", err)
		}
		h.Size = 0 // not announced, and found out
		last := c.submit(h, lines(1, 50))
		if f := c.findings(last.GetJobId()); len(f) != 1 || !strings.Contains(f[0].GetMessage(), ingest.SettingMaxBytes) {
			t.Errorf("findings %v", f)
		}
	})
}

// TestSlowUploadIsNotAbandoned opens an upload that brings nothing for hours, and one that is then opened again.
func TestSlowUploadIsNotAbandoned(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database, UploadTimeout: 10 * time.Minute}, nil)
		slow, left := c.open(c.ctx, header("slow")), c.open(c.ctx, header("left"))
		pass(5 * time.Hour)
		if j := c.job(slow.first.GetJobId()); j.GetState() != pb.JobState_JOB_STATE_RUNNING {
			t.Fatalf("while its stream is open: %v because %q", j.GetState(), j.GetReason())
		}
		slow.chunk(lines(1, 3))
		if last := slow.end(); last.GetItems() != 3 || last.GetJobStopped() {
			t.Errorf("last answer %v", last)
		}
		newer := c.open(c.ctx, header("left"))
		opened := time.Now()
		c.wantError("the older stream, which says nothing", left.failure(), codes.Aborted, "UPLOAD_FENCED")
		if took := time.Since(opened); took > 2*time.Minute {
			t.Errorf("it ended after %v", took)
		}
		newer.chunk(lines(1, 3))
		newer.end()
	})
}

// TestClientOutlastsTheDatabase takes the database away, and then all space, in the middle of uploads.
func TestClientOutlastsTheDatabase(t *testing.T) {
	inMemory(t, func(t *scene) {
		began := time.Now()
		var trouble error
		var from, to time.Duration
		c := start(t, Config{Database: t.database}, func(s store.Store) store.Store {
			return &away{Store: s, ingest: func() error {
				if at := time.Since(began); at >= from && at < to {
					return fmt.Errorf("commit ingest: %w", trouble)
				}
				return nil
			}}
		})
		submitter, err := client.New(client.Config{Conn: c.conn})
		c.must(err)
		const items = 200
		file := lines(1, items)
		upload := client.Upload{Kind: "probe", Policy: &pb.Policy{BatchItems: 7}}
		want := c.cuts(submit(c.ctx, t, submitter, file, upload))
		for i, cause := range []error{store.ErrUnavailable, store.ErrFull} {
			trouble = cause
			reason := pb.ErrorReason_ERROR_REASON_DATABASE_UNAVAILABLE
			if errors.Is(trouble, store.ErrFull) {
				reason = pb.ErrorReason_ERROR_REASON_DATABASE_FULL
			}
			began, from, to = time.Now(), time.Second, 40*time.Second
			if diff := cmp.Diff(want, c.cuts(submit(c.ctx, t, submitter, file, upload))); diff != "" {
				t.Errorf("%v: batches (-undisturbed +disturbed):\n%s", trouble, diff)
			}
			if took := time.Since(began); took < to {
				t.Errorf("%v: uploaded after %v, while the store was away", trouble, took)
			}
			// For longer than the client tries, it is an error that says why, and the upload can be resumed.
			began, to = time.Now(), 24*time.Hour
			upload.ID = fmt.Sprintf("given-up-%d", i)
			_, err := submitter.Upload(c.ctx, &slowly{file}, upload)
			failure, ok := errors.AsType[*client.Error](err)
			if !ok || failure.Unreachable() || failure.Reason != reason ||
				!strings.Contains(err.Error(), "database") || !strings.Contains(err.Error(), "(tried for 1m") {
				t.Errorf("%v: gave up with %v", trouble, err)
			}
			if full := errors.Is(trouble, store.ErrFull); full != strings.Contains(err.Error(), "no space left") {
				t.Errorf("%v: gave up with %v", trouble, err)
			}
			to = 0
			if diff := cmp.Diff(want, c.cuts(submit(c.ctx, t, submitter, file, upload))); diff != "" {
				t.Errorf("%v: batches (-undisturbed +resumed):\n%s", trouble, diff)
			}
			upload.ID = ""
		}
	})
}

// submit uploads a file that arrives slowly from a source that cannot be read again, and returns its job.
func submit(ctx context.Context, t testing.TB, c *client.Client, file []byte, u client.Upload) int64 {
	t.Helper()
	result, err := c.Upload(ctx, &slowly{file}, u)
	if err != nil {
		t.Fatal(err)
	}
	return result.JobID
}
