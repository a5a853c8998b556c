//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// BenchmarkCrash measures, with the real program and its default settings, how long it takes from a death until the batch
// has its new state, which is when it can be claimed again: of a child process, of a worker, and of a worker that is
// started again at once under its id. However long it is to run, it looks at a fixed number of deaths. All clocks are this
// machine's.
func BenchmarkCrash(b *testing.B) {
	for _, engine := range []struct {
		name string
		site func(testing.TB) *site
	}{{"SQLite", sqliteSite}, {"Postgres", postgresSite}} {
		b.Run(engine.name+"/child", func(b *testing.B) { benchmarkChild(b, engine.site(b)) })
		b.Run(engine.name+"/worker", func(b *testing.B) { benchmarkWorker(b, engine.site(b), false) })
		b.Run(engine.name+"/restarted", func(b *testing.B) { benchmarkWorker(b, engine.site(b), true) })
	}
}

// benchmarkChild has fifty items kill the process that handles them, each twice.
func benchmarkChild(b *testing.B, s *site) {
	b.Helper()
	const culprits = 50
	dir := b.TempDir()
	child, deaths := filepath.Join(dir, "child.sh"), filepath.Join(dir, "deaths")
	script := fmt.Sprintf(`while IFS= read -r line; do
	case $line in *die*) date +%%s%%N >>%s; kill -SEGV $$;; esac
	echo '{}'
done`, deaths)
	var lines strings.Builder
	for n := range culprits * 20 {
		if n%20 == 7 {
			fmt.Fprintf(&lines, "{\"n\":%d,\"do\":\"die\"}\n", n)
		} else {
			fmt.Fprintf(&lines, "{\"n\":%d}\n", n)
		}
	}
	if err := os.WriteFile(child, []byte(script), 0o600); err != nil {
		b.Fatal(err)
	}
	s.serve()
	s.handle("w", "exec sh "+child)
	job := s.upload(writeFile(b, lines.String()), client.Upload{Kind: "exec", Policy: &tallymanv1.Policy{BatchItems: 100}})
	s.await(job)

	data, err := os.ReadFile(deaths)
	if err != nil {
		b.Fatal(err)
	}
	var died []time.Time
	for line := range strings.Lines(string(data)) {
		ns, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		died = append(died, time.Unix(0, ns))
	}
	var ended []time.Time
	for _, batch := range s.batches(job) {
		for _, a := range s.attempts(batch.GetBatchId()) {
			if a.GetEnd() == tallymanv1.AttemptEnd_ATTEMPT_END_DIED {
				ended = append(ended, a.GetEndedAt().AsTime())
			}
		}
	}
	slices.SortFunc(ended, time.Time.Compare)
	if len(died) != 2*culprits || len(ended) != len(died) {
		b.Fatalf("%d deaths, %d attempts that died, want %d", len(died), len(ended), 2*culprits)
	}
	var took []time.Duration
	for i := range died {
		took = append(took, ended[i].Sub(died[i]))
	}
	distribution(b, took)
}

// benchmarkWorker kills workers that hold a batch whose handler does not end.
func benchmarkWorker(b *testing.B, s *site, restarted bool) {
	b.Helper()
	const kills = 10
	s.serve()
	job := s.upload(writeFile(b, `{"n":1}`+"\n"), client.Upload{Kind: "exec"})
	const command = "exec sleep 600"
	worker := s.handle("w", command)
	var took []time.Duration
	for n := range kills {
		id := int64(0)
		eventually(b, jobTimeout, "the worker to hold the batch", func() bool {
			for _, batch := range s.batches(job, tallymanv1.BatchState_BATCH_STATE_RUNNING) {
				id = batch.GetBatchId()
			}
			if done := s.job(job); client.Ended(done.GetState()) {
				// The item is the culprit by now: it begins anew.
				job = s.upload(writeFile(b, `{"n":1}`+"\n"), client.Upload{Kind: "exec"})
			}
			return id != 0
		})
		before := len(s.attempts(id))
		worker.signal(syscall.SIGKILL)
		killed := time.Now()
		name := fmt.Sprint("w", n)
		if restarted {
			name = "w"
		}
		next := func() { worker = s.handle(name, command) }
		if restarted {
			next()
		}
		var attempts []*tallymanv1.Attempt
		eventually(b, jobTimeout, "the attempt to end", func() bool {
			attempts = s.attempts(id)
			return len(attempts) > before
		})
		took = append(took, attempts[before].GetEndedAt().AsTime().Sub(killed))
		if !restarted {
			next()
		}
	}
	distribution(b, took)
}

// handle starts a worker with one slot whose items a command handles.
func (s *site) handle(id, line string) *process {
	s.t.Helper()
	return start(s.t, "work "+id, command{on: s.on, args: []string{
		"work", "--server", s.address, "--worker-id", id, "--kind", "exec", "--slots", "1", "--exec", line,
	}})
}

// distribution prints how long things took.
func distribution(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))] }
	b.Logf("%d deaths: least %v, p50 %v, p90 %v, p99 %v, most %v", len(took), at(0), at(0.5), at(0.9), at(0.99), at(1))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(at(0.5).Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(at(0.99).Microseconds())/1000, "p99-ms")
}
