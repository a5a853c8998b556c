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
