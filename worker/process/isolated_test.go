//go:build linux

package process_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/process"
)

func init() {
	programs["isolated"] = func() {
		if err := process.Serve(context.Background(), os.Stdin, os.Stdout, worker.HandlerFunc(obey)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	programs["no-store"] = func() { os.Exit(75) }
}

// obey does what its items say.
func obey(ctx context.Context, b *worker.Batch) error {
	for i := b.Done; i < len(b.Items); i++ {
		b.Begin(i)
		switch what := strings.Trim(string(b.Items[i].Data), `"`); what {
		case "die":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "panic":
			panic("argh")
		case "die between":
			b.Begin(-1)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "talk":
			fmt.Println("hello")
		case "wait":
			<-ctx.Done()
			return context.Cause(ctx)
		case "wait and finish":
			<-ctx.Done()
			b.Report(worker.Result{Outcome: worker.Skipped})
		case "hang":
			select {}
		case "fail":
			return errors.New("failed")
		case "fail for good":
			return worker.Permanent(errors.New("failed"))
		case "unavailable":
			return worker.Unavailable(errors.New("failed"))
		case "lost":
			return fmt.Errorf("fenced: %w", worker.ErrLeaseLost)
		case "no JSON":
			b.Report(worker.Result{Outcome: worker.Stored, Value: json.RawMessage(`{"`)})
		case "rest":
			b.ReportRest(worker.Result{Outcome: worker.Stored, Value: json.RawMessage(`1`)})
			return nil
		case "pid":
			b.Report(worker.Result{Outcome: worker.Stored, Value: json.RawMessage(strconv.Itoa(os.Getpid()))})
		case "facts":
			deadline, items := b.Deadline(), b.Items
			b.Items = nil
			facts, err := json.Marshal(b)
			if err != nil {
				return err
			}
			b.Items = items
			yes, err := b.Overlaps(ctx, 3)
			b.Report(worker.Result{Outcome: worker.StoredWithWarnings, Findings: []worker.Finding{
				{Severity: worker.SeverityWarning, Code: "FACTS", Path: "a[0]", Message: string(facts)},
				{Severity: worker.SeverityWarning, Code: "LEFT", Message: time.Until(deadline).Round(time.Minute).String()},
				{Severity: worker.SeverityWarning, Code: "OVERLAPS", Message: fmt.Sprint(yes, err)},
			}})
		default:
			b.Report(worker.Result{Outcome: worker.Stored})
		}
	}
	return nil
}

func isolate(t *testing.T, config process.Config) *process.Isolated {
	t.Helper()
	if config.Command == "" {
		config.Command = self("isolated")
	}
	h, err := process.NewIsolated(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func TestIsolatedHandler(t *testing.T) {
	t.Parallel()
	h := isolate(t, process.Config{})
	b := items(`"x"`, `"facts"`, `"no JSON"`, `"rest"`, `"x"`)
	b.Done, b.DefaultSourceDB, b.ClusterID = 1, "PMC", "cluster"
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	results, err := worker.Try(ctx, h, b)
	if err != nil || len(results) != 4 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	facts := b
	facts.Items = nil
	want, err := json.Marshal(facts)
	if err != nil {
		t.Fatal(err)
	}
	warning := func(code, path, message string) worker.Finding {
		return worker.Finding{Severity: worker.SeverityWarning, Code: code, Path: path, Message: message}
	}
	seen := worker.Result{Outcome: worker.StoredWithWarnings, Findings: []worker.Finding{
		warning("FACTS", "a[0]", string(want)), warning("LEFT", "", "1h0m0s"), warning("OVERLAPS", "", "false <nil>")}}
	if diff := cmp.Diff([]worker.Result{seen, {Outcome: worker.Stored, Value: json.RawMessage(`{"`)}, {Outcome: worker.Stored, Value: json.RawMessage(`1`)}, {Outcome: worker.Stored}}, results); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

func TestIsolatedHandlerFails(t *testing.T) {
	for name, test := range map[string]struct {
		config process.Config
		item   string
		want   string
		crash  *worker.Crash // without memory and fingerprint; its output only begins like this
		check  func(error) bool
	}{
		"killed": {item: "die", crash: &worker.Crash{Suspect: 1, Signal: "SIGKILL"},
			want: "item 2 (up.jsonl:2): the isolated handler died, perhaps because memory ran out: the process was killed by SIGKILL"},
		"a panic": {item: "panic", crash: &worker.Crash{Suspect: 1, ExitCode: 2, Stderr: "panic: argh"},
			want: "item 2 (up.jsonl:2): the isolated handler died: the process exited with code 2"},
		"between items": {item: "die between", crash: &worker.Crash{Suspect: -1, Signal: "SIGKILL"}, want: "the isolated handler died"},
		"too slow": {item: "hang", config: process.Config{BatchTimeout: 3 * time.Second},
			crash: &worker.Crash{Suspect: 1, Signal: "SIGKILL"}, want: "took longer than 3s"},
		"talk":          {item: "talk", want: `the isolated handler wrote "hello", which nobody understands`},
		"an error":      {item: "fail", want: "failed", check: func(err error) bool { return !worker.IsPermanent(err) && !worker.IsUnavailable(err) }},
		"for good":      {item: "fail for good", want: "failed", check: worker.IsPermanent},
		"not available": {item: "unavailable", want: "failed", check: worker.IsUnavailable},
		"a lost lease":  {item: "lost", want: "fenced", check: func(err error) bool { return errors.Is(err, worker.ErrLeaseLost) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := isolate(t, test.config)
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			defer cancel()
			results, err := worker.Try(ctx, h, items(`"x"`, strconv.Quote(test.item), `"x"`))
			if diff := cmp.Diff(stored(1), results); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || test.check != nil && !test.check(err) {
				t.Errorf("error %v, want %s", err, test.want)
			}
			crash, ok := errors.AsType[*worker.Crash](err)
			if ok && test.crash != nil {
				crash.Fingerprint, crash.PeakMemory = "", 0
				crash.Stderr = crash.Stderr[:min(len(crash.Stderr), len(test.crash.Stderr))]
			}
			if diff := cmp.Diff(test.crash, crash); diff != "" {
				t.Errorf("crash (-want +got):\n%s", diff)
			}
			// Another batch, in the same process or a new one.
			if results, err := worker.Try(ctx, h, items(`"x"`)); err != nil || len(results) != 1 {
				t.Errorf("afterwards: %d results, %v", len(results), err)
			}
		})
	}
}

func TestIsolatedProcessIsKept(t *testing.T) {
	t.Parallel()
	h := isolate(t, process.Config{})
	var pids []string
	for _, item := range []string{`"pid"`, `"fail"`, `"pid"`, `"die"`, `"pid"`} {
		results, _ := worker.Try(t.Context(), h, items(item))
		for _, r := range results {
			pids = append(pids, string(r.Value))
		}
	}
	if len(pids) != 3 || pids[0] != pids[1] || pids[1] == pids[2] {
		t.Errorf("processes %v", pids)
	}
	// One that dies while it waits accuses nobody.
	pid, err := strconv.Atoi(pids[2])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	results, err := worker.Try(t.Context(), h, items(`"pid"`))
	if err != nil || len(results) != 1 || string(results[0].Value) == pids[2] {
		t.Errorf("%v, %v", results, err)
	}
}

func TestIsolatedHandlerStops(t *testing.T) {
	for item, want := range map[string]struct {
		err     error
		results int
		timeout time.Duration
	}{
		"wait":            {worker.ErrDraining, 0, bound},
		"wait and finish": {nil, 1, bound},
		"hang":            {worker.ErrDraining, 0, 100 * time.Millisecond},
	} {
		t.Run(item, func(t *testing.T) {
			t.Parallel()
			h := isolate(t, process.Config{StopTimeout: want.timeout})
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(200*time.Millisecond, func() { cancel(worker.ErrDraining) })
			results, err := worker.Try(ctx, h, items(strconv.Quote(item)))
			if !errors.Is(err, want.err) || len(results) != want.results {
				t.Errorf("%d results, error %v", len(results), err)
			}
		})
	}
}

// A process that cannot start accuses nobody.
func TestIsolatedHandlerDoesNotStart(t *testing.T) {
	t.Parallel()
	results, err := worker.Try(t.Context(), isolate(t, process.Config{Command: "echo no such store >&2; exit 1"}), items(`"x"`))
	if want := "the command exited with code 1 before it read an item:\nno such store"; err == nil || err.Error() != want || len(results) > 0 {
		t.Errorf("error %v", err)
	}
	if _, err := worker.Try(t.Context(), isolate(t, process.Config{Command: self("no-store")}), items(`"x"`)); !worker.IsUnavailable(err) {
		t.Errorf("error %v", err)
	}
}
