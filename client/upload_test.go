package client_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// disk takes an upload and commits it in steps. It cuts the first streams after so many chunks each, without committing
// the last of them.
type disk struct {
	t         *testing.T
	cuts      []int
	committed []byte
	streams   int
	header    *tallymanv1.UploadHeader
}

func (d *disk) submit(s grpc.BidiStreamingServer[tallymanv1.SubmitUploadRequest, tallymanv1.SubmitUploadResponse]) error {
	opened, err := s.Recv()
	if err != nil {
		return err
	}
	d.header = opened.GetHeader()
	chunksLeft := -1
	if d.streams < len(d.cuts) {
		chunksLeft = d.cuts[d.streams]
	}
	d.streams++
	answer := func(finished bool) error {
		n := int64(len(d.committed))
		return s.Send(&tallymanv1.SubmitUploadResponse{
			JobId: 7, ResumeOffset: n, CommittedOffset: n, Items: n / 10, Batches: n / 100, Finished: finished,
		})
	}
	if err := answer(false); err != nil {
		return err
	}
	for {
		if chunksLeft == 0 {
			return status.Error(codes.Unavailable, "the connection was cut")
		}
		request, err := s.Recv()
		if err != nil {
			return err
		}
		chunksLeft--
		switch m := request.GetMessage().(type) {
		case *tallymanv1.SubmitUploadRequest_Chunk:
			if want := int64(len(d.committed)); m.Chunk.GetOffset() != want {
				d.t.Errorf("chunk at %d, want %d", m.Chunk.GetOffset(), want)
			}
			if chunksLeft == 0 {
				continue
			}
			d.committed = append(d.committed, m.Chunk.GetData()...)
			if err := answer(false); err != nil {
				return err
			}
		case *tallymanv1.SubmitUploadRequest_Finish:
			if want := int64(len(d.committed)); m.Finish.GetSize() != want {
				d.t.Errorf("finished at %d, want %d", m.Finish.GetSize(), want)
			}
			return answer(true)
		default:
			d.t.Errorf("unexpected message %T", m)
		}
	}
}

func content(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func TestUploadResumes(t *testing.T) {
	data := content(100_000)
	sources := map[string]func() io.Reader{
		"seeking":  func() io.Reader { return bytes.NewReader(data) },
		"pipe":     func() io.Reader { return io.MultiReader(bytes.NewReader(data)) },
		"trickle":  func() io.Reader { return iotest.HalfReader(io.MultiReader(bytes.NewReader(data))) },
		"data+EOF": func() io.Reader { return iotest.DataErrReader(io.MultiReader(bytes.NewReader(data))) },
	}
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &disk{t: t, cuts: []int{1, 0, 3, 1, 12, 2}}
				c := dial(t, &coordinator{upload: d.submit}, client.Config{})
				var seen []client.UploadProgress
				result, err := c.Upload(t.Context(), source(), client.Upload{
					ID: "u-1", FileName: "a.jsonl", ChunkBytes: 1000,
					Progress: func(p client.UploadProgress) { seen = append(seen, p) },
				})
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(d.committed, data) {
					t.Errorf("%d bytes arrived, want the %d that were sent", len(d.committed), len(data))
				}
				if want := len(d.cuts) + 1; d.streams != want {
					t.Errorf("%d streams, want %d", d.streams, want)
				}
				n := int64(len(data))
				want := client.UploadProgress{UploadID: "u-1", JobID: 7, Committed: n, Items: n / 10, Batches: n / 100}
				if name == "seeking" {
					want.Size = n
				}
				if diff := cmp.Diff(client.UploadResult{UploadProgress: want}, result); diff != "" {
					t.Errorf("result (-want +got):\n%s", diff)
				}
				if d.header.GetSize() != want.Size {
					t.Errorf("announced %d bytes, want %d", d.header.GetSize(), want.Size)
				}
				for i := 1; i < len(seen); i++ {
					if seen[i].Committed < seen[i-1].Committed {
						t.Fatalf("progress went back from %d to %d", seen[i-1].Committed, seen[i].Committed)
					}
				}
			})
		})
	}
}

// TestUploadContinuesAnother resumes what another call, perhaps of another process, began.
func TestUploadContinuesAnother(t *testing.T) {
	data := content(10_000)
	for name, source := range map[string]io.Reader{
		"seeking": bytes.NewReader(append([]byte("already consumed"), data...)),
		"pipe":    io.MultiReader(bytes.NewReader(append([]byte("already consumed"), data...))),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := io.CopyN(io.Discard, source, int64(len("already consumed"))); err != nil {
				t.Fatal(err)
			}
			d := &disk{t: t, committed: bytes.Clone(data[:4321])}
			c := dial(t, &coordinator{upload: d.submit}, client.Config{})
			if _, err := c.Upload(t.Context(), source, client.Upload{ID: "u-1", ChunkBytes: 1000}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(d.committed, data) {
				t.Errorf("%d bytes arrived, not those that were sent", len(d.committed))
			}
		})
	}
}

func TestUploadCannotResumeWhatWasNotKept(t *testing.T) {
	c := dial(t, &coordinator{
		upload: func(s grpc.BidiStreamingServer[tallymanv1.SubmitUploadRequest, tallymanv1.SubmitUploadResponse]) error {
			// Nothing is ever committed.
			if err := s.Send(&tallymanv1.SubmitUploadResponse{JobId: 7}); err != nil {
				return err
			}
			for range 1 + 5 {
				if _, err := s.Recv(); err != nil {
					return err
				}
			}
			return status.Error(codes.Unavailable, "the connection was cut")
		},
	}, client.Config{})
	source := io.MultiReader(bytes.NewReader(content(100_000)))
	result, err := c.Upload(t.Context(), source, client.Upload{ChunkBytes: 1000, KeepBytes: 3000})
	if err == nil || !strings.Contains(err.Error(), "cannot be read again") {
		t.Errorf("error %v, want one that says that the source cannot be read again", err)
	}
	if result.JobID != 7 {
		t.Errorf("job %d, want 7, which is known although the upload failed", result.JobID)
	}
}

func TestUploadGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		streams := 0
		c := dial(t, &coordinator{
			upload: func(s grpc.BidiStreamingServer[tallymanv1.SubmitUploadRequest, tallymanv1.SubmitUploadResponse]) error {
				streams++
				if err := s.Send(&tallymanv1.SubmitUploadResponse{JobId: 7}); err != nil {
					return err
				}
				return status.Error(codes.Unavailable, "the connection was cut")
			},
		}, client.Config{RetryFor: 20 * time.Second})
		began := time.Now()
		_, err := c.Upload(t.Context(), strings.NewReader("{}"), client.Upload{FileName: "a.jsonl"})
		failure, ok := errors.AsType[*client.Error](err)
		if !ok || !failure.Unreachable() {
			t.Fatalf("error %v, want that nothing answers", err)
		}
		if took := time.Since(began); took < 20*time.Second || took > 30*time.Second {
			t.Errorf("gave up after %v, want 20 s", took)
		}
		if streams < 5 || streams > 40 {
			t.Errorf("%d streams in 20 s, want a few", streams)
		}
	})
}

func TestUploadStopsWithItsJob(t *testing.T) {
	c := dial(t, &coordinator{
		upload: func(s grpc.BidiStreamingServer[tallymanv1.SubmitUploadRequest, tallymanv1.SubmitUploadResponse]) error {
			for range 3 {
				if _, err := s.Recv(); err != nil {
					return err
				}
				if err := s.Send(&tallymanv1.SubmitUploadResponse{JobId: 7}); err != nil {
					return err
				}
			}
			return s.Send(&tallymanv1.SubmitUploadResponse{JobId: 7, Finished: true, JobStopped: true})
		},
	}, client.Config{})
	endless := readerFunc(func(p []byte) (int, error) { return len(p), nil })
	result, err := c.Upload(t.Context(), endless, client.Upload{})
	if err != nil {
		t.Fatal(err)
	}
	if !result.Stopped {
		t.Error("the result does not say that the job was stopped")
	}
}

func TestUploadSourceFails(t *testing.T) {
	d := &disk{t: t}
	c := dial(t, &coordinator{upload: d.submit}, client.Config{})
	broken := errors.New("the disk is on fire")
	_, err := c.Upload(t.Context(), iotest.ErrReader(broken), client.Upload{})
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the source", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// What is small and new is sent whole before the coordinator has answered anything: also when the stream is cut then, and
// whether or not the upload came in.
func TestUploadAtOnce(t *testing.T) {
	data := content(1000)
	for name, arrived := range map[string]bool{"cut before it came in": false, "cut after it came in": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &disk{t: t}
				tries := 0
				c := dial(t, &coordinator{upload: func(
					s grpc.BidiStreamingServer[tallymanv1.SubmitUploadRequest, tallymanv1.SubmitUploadResponse],
				) error {
					tries++
					if tries > 1 {
						return d.submit(s)
					}
					var came []byte
					for {
						request, err := s.Recv()
						if err != nil {
							t.Errorf("the stream ended before finish: %v", err)
							return err
						}
						came = append(came, request.GetChunk().GetData()...)
						if request.GetFinish() != nil {
							break
						}
					}
					if !bytes.Equal(came, data) {
						t.Errorf("%d bytes came, want all %d", len(came), len(data))
					}
					if arrived {
						d.committed = came
					}
					return status.Error(codes.Unavailable, "the connection was cut")
				}, getJob: known}, client.Config{})
				if _, err := c.Job(t.Context(), 1); err != nil { // who never reached a coordinator gives up at once
					t.Fatal(err)
				}
				result, err := c.Upload(t.Context(), bytes.NewReader(data), client.Upload{ID: "u-1", New: true})
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(d.committed, data) || result.Committed != int64(len(data)) || tries != 2 {
					t.Errorf("%d bytes are committed after %d streams, the result says %d; want %d after 2",
						len(d.committed), tries, result.Committed, len(data))
				}
			})
		})
	}
}
