package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/sample"
	"github.com/tallyman-dev/tallyman/server"
)

// coordinatorProcess is a real coordinator that can be started anew at the same address.
type coordinatorProcess struct {
	t       *testing.T
	config  server.Config
	address string
	stop    context.CancelFunc
	ended   chan error
}

func startCoordinator(t *testing.T) *coordinatorProcess {
	t.Helper()
	p := &coordinatorProcess{t: t, config: server.Config{
		Database: "sqlite:" + filepath.Join(t.TempDir(), "tallyman.db"), Migrate: true, Listen: "127.0.0.1:0",
	}}
	p.start()
	t.Cleanup(p.end)
	return p
}

func (p *coordinatorProcess) start() {
	p.t.Helper()
	s, err := server.Open(context.WithoutCancel(p.t.Context()), p.config)
	if err != nil {
		p.t.Fatal(err)
	}
	p.address, p.config.Listen = s.Addr(), s.Addr()
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.t.Context()))
	p.stop, p.ended = cancel, make(chan error, 1)
	go func() { p.ended <- s.Run(ctx) }()
}

func (p *coordinatorProcess) end() {
	p.stop()
	if err := <-p.ended; err != nil {
		p.t.Errorf("coordinator: %v", err)
	}
}

func (p *coordinatorProcess) client() *client.Client {
	p.t.Helper()
	return reach(p.t, client.Config{Address: p.address})
}

// tripwire calls f once, before it reads on at an offset.
type tripwire struct {
	io.Reader
	left int
	f    func()
}

func (r *tripwire) Read(p []byte) (int, error) {
	if r.left <= 0 && r.f != nil {
		r.f()
		r.f = nil
	}
	n, err := r.Reader.Read(p)
	r.left -= n
	return n, err
}

// seekingTripwire is a tripwire over what can seek.
type seekingTripwire struct {
	tripwire
	io.Seeker
}

func TestUploadSurvivesRestart(t *testing.T) {
	var collection bytes.Buffer
	made, err := sample.Generate(&collection, sample.Config{Documents: 2000, Bad: 10})
	if err != nil {
		t.Fatal(err)
	}
	data := collection.Bytes()
	for _, seeks := range []bool{true, false} {
		name := map[bool]string{true: "seeking", false: "pipe"}[seeks]
		t.Run(name, func(t *testing.T) {
			p := startCoordinator(t)
			c := p.client()
			reader := bytes.NewReader(data)
			wire := tripwire{Reader: reader, left: len(data) / 2, f: func() {
				p.end()
				p.start()
			}}
			var source io.Reader = &wire
			if seeks {
				source = &seekingTripwire{wire, reader}
			}
			result, err := c.Upload(t.Context(), source, client.Upload{Project: "restart", FileName: "a.jsonl"})
			if err != nil {
				t.Fatal(err)
			}
			if result.Items != made.Items || result.Committed != made.Bytes || result.Stopped {
				t.Errorf("result %+v, want %d items in %d bytes", result, made.Items, made.Bytes)
			}
			job, err := c.Job(t.Context(), result.JobID)
			if err != nil {
				t.Fatal(err)
			}
			if !job.GetIngestDone() || job.GetProgress().GetItemsTotal() != made.Items {
				t.Errorf("ingest done %v with %d items, want %d", job.GetIngestDone(), job.GetProgress().GetItemsTotal(), made.Items)
			}
			again, err := c.Upload(t.Context(), bytes.NewReader(data),
				client.Upload{ID: result.UploadID, Project: "restart", FileName: "a.jsonl"})
			if err != nil || again.JobID != result.JobID {
				t.Errorf("the same upload again is job %d with error %v, want job %d", again.JobID, err, result.JobID)
			}
		})
	}
}

func TestWatchSurvivesRestart(t *testing.T) {
	p := startCoordinator(t)
	c := p.client()
	const item = `{"sourcedb":"PubMed","sourceid":"1","text":"one two"}`
	result, err := c.Upload(t.Context(), bytes.NewReader([]byte(item)), client.Upload{Project: "restart"})
	if err != nil {
		t.Fatal(err)
	}
	var states []tallymanv1.JobState
	for job, err := range c.Watch(t.Context(), result.JobID) {
		if err != nil {
			t.Fatal(err)
		}
		if len(states) == 0 {
			p.end()
			p.start()
			if _, err := c.Cancel(t.Context(), result.JobID, "enough"); err != nil {
				t.Fatal(err)
			}
		}
		if len(states) == 0 || states[len(states)-1] != job.GetState() {
			states = append(states, job.GetState())
		}
	}
	if first, last := states[0], states[len(states)-1]; first != tallymanv1.JobState_JOB_STATE_RUNNING ||
		last != tallymanv1.JobState_JOB_STATE_CANCELLED {
		t.Errorf("states %v, want from running to cancelled", states)
	}
	if err := c.Delete(t.Context(), result.JobID); err != nil {
		t.Errorf("delete: %v", err)
	}
	for _, err := range c.Watch(t.Context(), result.JobID) {
		if client.ReasonOf(err) != tallymanv1.ErrorReason_ERROR_REASON_JOB_NOT_FOUND {
			t.Errorf("watch after the deletion: %v, want JOB_NOT_FOUND", err)
		}
	}
}

func TestListsOfARealCoordinator(t *testing.T) {
	p := startCoordinator(t)
	c := p.client()
	lines := []byte(`{"sourcedb":"PubMed","sourceid":"1","text":"one two"}` + "\n" + `nonsense` + "\n" +
		`{"sourcedb":"PubMed","sourceid":"2","text":"one two"}` + "\n")
	var want []int64
	for range 5 {
		result, err := c.Upload(t.Context(), bytes.NewReader(lines), client.Upload{
			Project: "lists", FileName: "a.jsonl", Policy: &tallymanv1.Policy{BatchItems: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		want = append([]int64{result.JobID}, want...)
	}
	var jobs []int64
	for job, err := range c.Jobs(t.Context(), &tallymanv1.ListJobsRequest{Project: "lists", PageSize: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, job.GetJobId())
	}
	if diff := cmp.Diff(want, jobs); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	var batches int
	for batch, err := range c.Batches(t.Context(), &tallymanv1.ListBatchesRequest{JobId: want[0], PageSize: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Batch(t.Context(), batch.GetBatchId()); err != nil {
			t.Error(err)
		}
		batches++
	}
	if batches != 2 {
		t.Errorf("%d batches, want 2", batches)
	}
	var lineNumbers []int64
	for finding, err := range c.Findings(t.Context(), &tallymanv1.ListFindingsRequest{JobId: want[0]}) {
		if err != nil {
			t.Fatal(err)
		}
		lineNumbers = append(lineNumbers, finding.GetLine())
	}
	if diff := cmp.Diff([]int64{2}, lineNumbers); diff != "" {
		t.Errorf("lines with findings (-want +got):\n%s", diff)
	}
	for w, err := range c.Workers(t.Context(), &tallymanv1.ListWorkersRequest{IncludeEnded: true}) {
		t.Errorf("worker %v, error %v; want none", w, err)
	}
	if _, err := c.Statistics(t.Context(), &tallymanv1.GetStatisticsRequest{JobId: want[0]}); err != nil {
		t.Error(err)
	}
	_, err := c.Upload(t.Context(), bytes.NewReader(lines), client.Upload{Project: "no"})
	refused, ok := errors.AsType[*client.Error](err)
	if !ok || len(refused.Fields) != 1 || refused.Fields[0].Name != "header.project" {
		t.Errorf("error %v, want one about header.project", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.Job(ctx, 999); client.ReasonOf(err) != tallymanv1.ErrorReason_ERROR_REASON_JOB_NOT_FOUND {
		t.Errorf("error %v, want JOB_NOT_FOUND", err)
	}
}

// cutReader fails after some bytes, like a process that is killed in the middle of an upload.
type cutReader struct {
	io.Reader
	left   int
	before func() // called before it fails
}

var errCut = errors.New("cut")

func (r *cutReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		r.before()
		return 0, errCut
	}
	n, err := r.Reader.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}

// TestUploadResumesTheSameFileOnly resumes uploads, interrupted and complete, with their own and with other files.
func TestUploadResumesTheSameFileOnly(t *testing.T) {
	c := startCoordinator(t).client()
	var file bytes.Buffer
	if _, err := sample.Generate(&file, sample.Config{Documents: 2000, Seed: 1}); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	changed := bytes.Clone(whole)
	changed[bytes.IndexByte(changed, '\n')-10] ^= 1
	upload := client.Upload{ID: "one", Project: "a-project"}

	// The upload breaks off when something of it is committed; each look asks the coordinator, at its pace.
	var committed int64
	waiting, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	await := func() {
		for committed == 0 && waiting.Err() == nil {
			if status, err := c.UploadStatus(waiting, upload.ID); err == nil {
				committed = status.GetCommittedOffset()
			}
		}
	}
	cut := &cutReader{bytes.NewReader(whole), len(whole) * 3 / 4, await}
	if _, err := c.Upload(t.Context(), cut, upload); !errors.Is(err, errCut) {
		t.Fatalf("the interrupted upload: %v", err)
	}
	if committed == 0 {
		t.Fatal("nothing was committed before the upload was interrupted")
	}
	others := map[string][]byte{
		"changed":   changed,
		"too short": whole[:committed/2],
		"empty":     nil,
	}
	refused := func(t *testing.T) {
		t.Helper()
		for name, data := range others {
			for kind, source := range map[string]io.Reader{"file": bytes.NewReader(data), "pipe": struct{ io.Reader }{bytes.NewReader(data)}} {
				_, err := c.Upload(t.Context(), source, upload)
				if got := client.ReasonOf(err); got != tallymanv1.ErrorReason_ERROR_REASON_UPLOAD_CHANGED {
					t.Errorf("resumed with a %s that is %s: %v", kind, name, err)
				}
			}
		}
	}
	refused(t)
	if _, err := c.Upload(t.Context(), struct{ io.Reader }{bytes.NewReader(whole)}, upload); err != nil {
		t.Fatalf("resumed with its own file: %v", err)
	}
	others["longer"] = append(bytes.Clone(whole), "{}\n"...)
	refused(t)
	if _, err := c.Upload(t.Context(), bytes.NewReader(whole), upload); err != nil {
		t.Errorf("repeated when it was complete: %v", err)
	}
}
