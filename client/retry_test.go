package client_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

type uploading = grpc.BidiStreamingServer[tallymanv1.SubmitUploadRequest, tallymanv1.SubmitUploadResponse]

// take answers the header of an upload and takes it to its end.
func take(s uploading) error {
	if err := s.Send(&tallymanv1.SubmitUploadResponse{JobId: 7}); err != nil {
		return err
	}
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if f := m.GetFinish(); f != nil {
			return s.Send(&tallymanv1.SubmitUploadResponse{JobId: 7, CommittedOffset: f.GetSize(), Finished: true})
		}
	}
}

func TestUploadOutlastsWhatPasses(t *testing.T) {
	fenced := refusal(t, codes.Aborted, "UPLOAD_FENCED", "the upload was opened again by a newer stream")
	lost := status.Error(codes.Unavailable, "the connection was cut")
	for name, test := range map[string]struct {
		unanswered []error                // how the first streams end before their headers are answered
		answered   []error                // how the next ones end after that
		want       tallymanv1.ErrorReason // unspecified for an upload that goes on
	}{
		"interrupted by something on the way": {answered: []error{
			refusal(t, codes.Aborted, "UPLOAD_INTERRUPTED", "the stream ended without finish"),
		}},
		"broken off by something on the way": {answered: []error{
			status.Error(codes.Internal, "the stream was reset"), status.Error(codes.Unknown, "odd"),
		}},
		"a defect of the coordinator": {
			answered: []error{refusal(t, codes.Internal, "INTERNAL", "internal error")},
			want:     tallymanv1.ErrorReason_ERROR_REASON_INTERNAL,
		},
		"its own stream of before is opened late": {
			unanswered: []error{lost}, answered: []error{lost, fenced},
		},
		"more newer streams than it has opened": {
			unanswered: []error{lost}, answered: []error{fenced, fenced},
			want: tallymanv1.ErrorReason_ERROR_REASON_UPLOAD_FENCED,
		},
		"somebody else's newer stream": {
			answered: []error{lost, fenced},
			want:     tallymanv1.ErrorReason_ERROR_REASON_UPLOAD_FENCED,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				unanswered, answered := test.unanswered, test.answered
				c := dial(t, &coordinator{
					upload: func(s uploading) error {
						if _, err := s.Recv(); err != nil {
							return err
						}
						switch {
						case len(unanswered) > 0:
							end := unanswered[0]
							unanswered = unanswered[1:]
							return end
						case len(answered) > 0:
							end := answered[0]
							answered = answered[1:]
							if err := s.Send(&tallymanv1.SubmitUploadResponse{JobId: 7}); err != nil {
								return err
							}
							return end
						}
						return take(s)
					},
					getJob: known,
				}, client.Config{})
				if _, err := c.Job(t.Context(), 7); err != nil { // the first contact of a client is not repeated
					t.Fatal(err)
				}
				_, err := c.Upload(t.Context(), strings.NewReader("{}\n"), client.Upload{})
				if got := client.ReasonOf(err); got != test.want || (err == nil) != (got == 0) {
					t.Errorf("ended with %v, want reason %v", err, test.want)
				}
			})
		})
	}
}

// TestUploadWaitsForItsTurn is refused for a while because the client has too many uploads open.
func TestUploadWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		free := 20 * time.Second
		c := dial(t, &coordinator{upload: func(s uploading) error {
			if _, err := s.Recv(); err != nil {
				return err
			}
			if time.Since(began) < free {
				return refusal(t, codes.ResourceExhausted, "TOO_MANY_UPLOADS", "this client has 2 uploads open")
			}
			return take(s)
		}}, client.Config{})
		if _, err := c.Upload(t.Context(), strings.NewReader("{}\n"), client.Upload{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("waited %v, want about 20s", took)
		}
		free = time.Hour
		began = time.Now()
		_, err := c.Upload(t.Context(), strings.NewReader("{}\n"), client.Upload{})
		failure, ok := errors.AsType[*client.Error](err)
		if !ok || failure.Unreachable() || failure.Reason != tallymanv1.ErrorReason_ERROR_REASON_TOO_MANY_UPLOADS ||
			!strings.Contains(err.Error(), "this client has 2 uploads open (tried for 1m0s)") {
			t.Errorf("ended with %v, want why and for how long it was tried", err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("waited %v, want a minute", took)
		}
	})
}

// TestUploadThatStandsIsNoOutage cuts streams that stood for long, but in which nothing could be committed yet, as while
// a large compressed file is sent again from its start.
func TestUploadThatStandsIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		streams := 0
		c := dial(t, &coordinator{upload: func(s uploading) error {
			if _, err := s.Recv(); err != nil {
				return err
			}
			if streams++; streams > 6 {
				return take(s)
			}
			if err := s.Send(&tallymanv1.SubmitUploadResponse{JobId: 7}); err != nil {
				return err
			}
			<-time.After(10 * time.Minute)
			return status.Error(codes.Unavailable, "the connection was cut")
		}}, client.Config{})
		if _, err := c.Upload(t.Context(), bytes.NewReader(content(100)), client.Upload{}); err != nil {
			t.Errorf("cut six times, ten minutes each: %v", err)
		}
	})
}
