package main

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/sample"
)

// claimer works by hand.
type claimer struct {
	t       *testing.T
	client  tallymanv1.WorkerServiceClient
	session int64
	claims  int
}

func newClaimer(t *testing.T, address string) *claimer {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &claimer{t: t, client: tallymanv1.NewWorkerServiceClient(conn)}
}

// register starts a session. What an earlier one of the same worker held has died.
func (c *claimer) register(worker string) {
	c.t.Helper()
	r, err := c.client.RegisterWorker(c.t.Context(), &tallymanv1.RegisterWorkerRequest{WorkerId: worker, Kinds: []string{"annotations"}, Slots: 8})
	if err != nil {
		c.t.Fatal(err)
	}
	c.session = r.GetSessionId()
}

// claim takes n batches.
func (c *claimer) claim(n int) []*tallymanv1.Grant {
	c.t.Helper()
	var all []*tallymanv1.Grant
	for len(all) < n {
		c.claims++
		r, err := c.client.ClaimBatches(c.t.Context(), &tallymanv1.ClaimBatchesRequest{
			SessionId: c.session, RequestId: strconv.Itoa(c.claims), MaxBatches: int32(n - len(all)),
		})
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, r.GetGrants()...)
	}
	return all
}

// settle ends attempts, with all items stored if they complete.
func (c *claimer) settle(end tallymanv1.AttemptEnd, message string, grants ...*tallymanv1.Grant) {
	c.t.Helper()
	request := &tallymanv1.SettleBatchesRequest{SessionId: c.session}
	for _, g := range grants {
		s := &tallymanv1.Settlement{BatchId: g.GetBatchId(), Attempt: g.GetAttempt(), End: end, Message: message}
		if end == tallymanv1.AttemptEnd_ATTEMPT_END_COMPLETED {
			s.Outcomes = []*tallymanv1.OutcomeRun{{Count: g.GetItemCount(), Outcome: tallymanv1.Outcome_OUTCOME_STORED}}
		}
		request.Settlements = append(request.Settlements, s)
	}
	if _, err := c.client.SettleBatches(c.t.Context(), request); err != nil {
		c.t.Fatal(err)
	}
}

// crashed makes a job of n batches, all of which complete after some of them, and none of the others, have crashed.
func crashed(t *testing.T, data, address string, n, crashes int) {
	t.Helper()
	path, _ := collection(t, sample.Config{Documents: n, Passages: 1})
	must(t, exitOK, "submit", path, "--batch-items", "1", "--data", data)
	c := newClaimer(t, address)
	c.register("w")
	c.claim(crashes)
	c.register("w")
	for done := 0; done < n; {
		// Those that crashed come one at a time.
		grants := c.claim(1)
		c.settle(tallymanv1.AttemptEnd_ATTEMPT_END_COMPLETED, "", grants...)
		done += len(grants)
	}
}

// until repeats a look that changes nothing until it is satisfied.
func until(t *testing.T, look func() (result, bool)) {
	t.Helper()
	for began := time.Now(); ; {
		r, ok := look()
		if ok {
			return
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("after 30 s: %+v", r)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	_, data, address := serve(t) // without workers
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{exitOK, "ok: 0 workers, 0 open jobs, 0 batches pending, 0 running, crash rate 0.0 % (0 of 0 batches in 1h)\n", nil},
		{exitOther, "ALARM: 0 workers alive, fewer than 1: ", []string{"--min-workers", "1"}},
		{exitOK, "", []string{"--quiet", "--max-crash-rate", "0"}},
		{exitUsage, "", []string{"--max-crash-rate", "5"}},
		{exitUsage, "", []string{"--watch", "--interval", "0.5s"}},
		{exitUsage, "", []string{"-o", "tsv"}},
	} {
		r := must(t, c.code, append([]string{"health", "--data", data}, c.args...)...)
		if !strings.HasPrefix(r.stdout, c.want) || (c.want == "") != (r.stdout == "") || lineCount(r.stdout) > 1 {
			t.Errorf("health %v: %q, want %q", c.args, r.stdout, c.want)
		}
	}
	crashed(t, data, address, 25, 2)
	want := regexp.MustCompile(`^ALARM: crash rate 8\.0 % is above 5\.0 %: 1 worker, .*, crash rate 8\.0 % \(2 of 25 batches in 1h\)\n$`)
	// The batches are counted a moment after they were settled.
	until(t, func() (result, bool) {
		r := tallyman(t, "health", "--data", data)
		return r, want.MatchString(r.stdout) && r.code == exitOther
	})
	must(t, exitOK, "health", "--data", data, "--max-crash-rate", "8%")
	r := must(t, exitOther, "health", "--data", data, "--max-crash-rate", "0.079", "-o", "json")
	report := objects(t, r.stdout)[0]
	if report["ok"] != false || report["crash_rate"] != 0.08 || report["batches_crashed"] != 2.0 || report["workers"] != 1.0 {
		t.Errorf("report: %s", r.stdout)
	}
	stats := objects(t, must(t, exitOK, "stats", "--data", data, "-o", "json").stdout)[0]
	if stats["crash_rate"] != report["crash_rate"] {
		t.Errorf("crash rate %v of stats, %v of health", stats["crash_rate"], report["crash_rate"])
	}
}

// A few crashes are no alarm: the rate of few batches says nothing.
func TestHealthNeedsBatches(t *testing.T) {
	t.Parallel()
	_, data, address := serve(t)
	crashed(t, data, address, 19, 10)
	until(t, func() (result, bool) {
		r := must(t, exitOK, "health", "--data", data)
		return r, strings.Contains(r.stdout, "(10 of 19 batches in 1h)")
	})
}

func TestHealthSeesWhatWaits(t *testing.T) {
	t.Parallel()
	path, _ := collection(t, sample.Config{Documents: 5})
	_, data, _ := serve(t)
	must(t, exitOK, "submit", path, "--data", data)
	r := must(t, exitOther, "health", "--data", data, "--max-wait", "1ns")
	if !strings.Contains(r.stdout, "ALARM: job 1 has waited for ") || !strings.HasSuffix(r.stdout, ", no worker for annotations\n") {
		t.Errorf("health: %s", r.stdout)
	}
	must(t, exitOK, "health", "--data", data, "--max-wait", "1h")
}

func TestHealthUnreachable(t *testing.T) {
	t.Parallel()
	server, data, _ := serve(t)
	server.stop()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, args := range [][]string{
		{"--data", data}, // what the folder holds is not asked: nobody serves it
		{"--data", filepath.Join(t.TempDir(), "nothing")},
		{"--server", "127.0.0.1:1"},
		{"--server", silent.Addr().String(), "--timeout", "100ms"},
	} {
		if r := must(t, exitUnreachable, append([]string{"health"}, args...)...); r.stdout != "" || r.stderr == "" {
			t.Errorf("health %v: %q, %q", args, r.stdout, r.stderr)
		}
	}
	r := must(t, exitUnreachable, "health", "--server", "127.0.0.1:1", "-o", "json")
	if report := objects(t, r.stdout)[0]; report["reachable"] != false || report["ok"] != false {
		t.Errorf("report: %s", r.stdout)
	}
}

func TestHealthWatch(t *testing.T) {
	t.Parallel()
	_, data, _ := serve(t)
	b := start(t, nil, "health", "--watch", "--interval", "1s", "--data", data)
	b.await(&b.stdout, `(?s)^\d\d:\d\d:\d\d ok: .*\n\d\d:\d\d:\d\d ok: .*\n`)
	if code := b.stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if text := b.stderr.String(); text != "" {
		t.Errorf("stderr: %s", text)
	}
	b = start(t, nil, "health", "--watch", "--interval", "1s", "--server", "127.0.0.1:1")
	b.await(&b.stdout, `(?s)^\S+ UNREACHABLE: .*\n\S+ UNREACHABLE: .*\n`)
	if code := b.stop(); code != exitUnreachable {
		t.Errorf("exit code %d", code)
	}
}

func TestWorkers(t *testing.T) {
	t.Parallel()
	path, _ := collection(t, sample.Config{Documents: 4, Passages: 1})
	_, data, address := serve(t)
	must(t, exitOK, "submit", path, "--batch-items", "1", "--data", data)
	c := newClaimer(t, address)
	c.register("host-7")
	grants := c.claim(3)
	c.settle(tallymanv1.AttemptEnd_ATTEMPT_END_COMPLETED, "", grants[0])
	c.settle(tallymanv1.AttemptEnd_ATTEMPT_END_FAILED, "no space left", grants[1])
	held := c.claim(1)[0]
	r := must(t, exitOK, "workers", "--data", data)
	if !regexp.MustCompile(`WORKER +STATE .*LAST BEAT\nhost-7 +alive .*\d+s ago\n$`).MatchString(r.stdout) {
		t.Errorf("workers:\n%s", r.stdout)
	}
	r = must(t, exitOK, "workers", "host-7", "--data", data)
	for _, part := range []string{
		"holds       2 of at most 8 batches\n", "batches that it holds\n", fmt.Sprintf("  %d ", held.GetBatchId()),
		"last attempts that did not complete\n", "no space left",
	} {
		if !strings.Contains(r.stdout, part) {
			t.Errorf("no %q in:\n%s", part, r.stdout)
		}
	}
	c.register("host-7")
	one := objects(t, must(t, exitOK, "workers", "host-7", "-o", "json", "--data", data).stdout)[0]
	if w := one["worker"].(map[string]any); integer(t, w["session_id"]) != c.session || len(one["batches"].([]any)) != 0 {
		t.Errorf("after it registered again: %v", one)
	}
	if all := must(t, exitOK, "workers", "--all", "-o", "tsv", "--data", data).stdout; lineCount(all) != 3 {
		t.Errorf("all sessions:\n%s", all)
	}
	if r := must(t, exitOther, "workers", "host-8", "--data", data); !strings.Contains(r.stderr, "there is no worker host-8") {
		t.Errorf("an unknown worker: %s", r.stderr)
	}
}
