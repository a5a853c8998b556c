package main

import (
	"strings"
	"testing"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/sample"
)

func TestAWatcherIsToldThatNobodyWorks(t *testing.T) {
	t.Parallel()
	path, _ := collection(t, sample.Config{Documents: 5})
	_, data, address := serve(t)
	watching := start(t, nil, "submit", path, "--watch", "--data", data)
	want := `job 1 waits: no worker for the kind annotations is connected; .tallyman work --data ` + data + `. starts one\n`
	watching.await(&watching.stderr, want)
	c := newClaimer(t, address)
	c.register("w")
	// With a worker that is busy elsewhere there is nothing to say.
	second := start(t, nil, "watch", "1", "--data", data)
	c.settle(tallymanv1.AttemptEnd_ATTEMPT_END_COMPLETED, "", c.claim(1)...)
	if code := watching.wait(); code != exitOK {
		t.Errorf("exit code %d: %s", code, watching.stderr.String())
	}
	if code := second.wait(); code != exitOK || strings.Contains(second.stderr.String(), "waits") {
		t.Errorf("exit code %d: %s", code, second.stderr.String())
	}
}

// TestAWatcherIsToldWhatWorkersLack has a worker whose store is full: watchers, health and lists say so until it is not.
func TestAWatcherIsToldWhatWorkersLack(t *testing.T) {
	t.Parallel()
	path, _ := collection(t, sample.Config{Documents: 5})
	_, data, address := serve(t)
	c := newClaimer(t, address)
	c.register("w")
	stream, err := c.client.Heartbeat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sequence := int64(0)
	beat := func(trouble string) {
		t.Helper()
		sequence++
		err := stream.Send(&tallymanv1.HeartbeatRequest{SessionId: c.session, Sequence: sequence, Trouble: trouble})
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	beat("the annotation store is unavailable: its disk is full")
	watching := start(t, nil, "submit", path, "--watch", "--data", data)
	watching.await(&watching.stderr, `job 1 waits: worker w lacks what it needs: the annotation store is unavailable: its disk is full; it goes on by itself`)
	r := must(t, exitOther, "health", "--data", data)
	if want := "ALARM: 1 of 1 worker cannot work for want of what they need, as worker w ("; !strings.HasPrefix(r.stdout, want) {
		t.Errorf("health says %q, want %q", r.stdout, want)
	}
	for _, args := range [][]string{{"workers"}, {"workers", "w"}} {
		if r := must(t, exitOK, append(args, "--data", data)...); !strings.Contains(r.stdout, "waits for what it needs") {
			t.Errorf("%s shows nothing: %s", args, r.stdout)
		}
	}
	beat("")
	must(t, exitOK, "health", "--data", data)
	c.settle(tallymanv1.AttemptEnd_ATTEMPT_END_COMPLETED, "", c.claim(1)...)
	if code := watching.wait(); code != exitOK || strings.Count(watching.stderr.String(), "waits:") != 1 {
		t.Errorf("exit code %d: %s", code, watching.stderr.String())
	}
}
