//go:build linux

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/internal/pgtest"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

const (
	// startTimeout bounds the start of a coordinator, until it says where it listens.
	startTimeout = 60 * time.Second

	// jobTimeout bounds a job from its submission to its end.
	jobTimeout = 4 * time.Minute
)

// site is a coordinator with what works for it.
type site struct {
	t        testing.TB
	data     string   // folder; empty on Postgres
	database []string // flags of serve that name it
	store    string   // of annotations
	on       *host    // where processes are started; default: here
	server   *process
	address  string
	client   *client.Client
}

// postgresSite prepares a site on a new Postgres database, which holds the annotations, too. Nothing runs yet.
func postgresSite(t testing.TB) *site {
	t.Helper()
	program := binary(t)
	dsn := pgtest.DSN(t, "e2e", func(ctx context.Context, dsn string) error {
		migrate := exec.CommandContext(ctx, program, "migrate", "--database", dsn, "--store", dsn)
		migrate.Env = environment()
		if out, err := migrate.CombinedOutput(); err != nil {
			return fmt.Errorf("migrate: %w\n%s", err, out)
		}
		return nil
	})
	return &site{t: t, database: []string{"--database", dsn}, store: dsn}
}

// sqliteSite prepares a site on a new data folder.
func sqliteSite(t testing.TB) *site {
	t.Helper()
	dir := t.TempDir()
	return &site{t: t, data: dir, database: []string{"--data", dir}, store: "sqlite:" + dir + "/annotations.db"}
}

var addressPattern = regexp.MustCompile(`[0-9]+\.[0-9.]+:[1-9][0-9]*`)

// serve starts the coordinator, on the address it had if it ran before, and makes the client.
func (s *site) serve(flags ...string) *process {
	s.t.Helper()
	listen := s.address
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	args := append([]string{"serve", "--listen", listen}, s.database...)
	s.server = start(s.t, "serve", command{on: s.on, args: append(args, flags...)})
	eventually(s.t, startTimeout, "the coordinator to say where it listens", func() bool {
		if !s.server.running() {
			s.t.Fatal("the coordinator ended")
		}
		s.address = addressPattern.FindString(s.server.stdout.String())
		return s.address != ""
	})
	if s.client == nil {
		s.client = dial(s.t, s.address)
	}
	return s.server
}

func dial(t testing.TB, address string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Address: address, RetryFor: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// work starts a worker.
func (s *site) work(id string, flags ...string) *process {
	s.t.Helper()
	args := []string{"work", "--server", s.address, "--store", s.store, "--worker-id", id}
	return start(s.t, "work "+id, command{on: s.on, args: append(args, flags...)})
}

// upload sends a file by the client library and returns its job.
func (s *site) upload(path string, u client.Upload) int64 {
	s.t.Helper()
	return uploadFile(s.t, s.client, path, u)
}

// job returns a job as it is now.
func (s *site) job(id int64) *tallymanv1.Job {
	s.t.Helper()
	job, err := s.client.Job(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return job
}

// await waits for the end of a job and returns it.
func (s *site) await(id int64) *tallymanv1.Job {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), jobTimeout)
	defer cancel()
	var last *tallymanv1.Job
	for job, err := range s.client.Watch(ctx, id) {
		if err != nil {
			s.t.Fatalf("wait for job %d: %v; last seen: %v", id, err, last)
		}
		last = job
	}
	return last
}

// batches returns the batches of a job, in order.
func (s *site) batches(id int64, states ...tallymanv1.BatchState) []*tallymanv1.Batch {
	s.t.Helper()
	var all []*tallymanv1.Batch
	for batch, err := range s.client.Batches(s.t.Context(), &tallymanv1.ListBatchesRequest{JobId: id, States: states, PageSize: 500}) {
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, batch)
	}
	return all
}

// attempts returns the ended attempts of a batch that did not complete.
func (s *site) attempts(batch int64) []*tallymanv1.Attempt {
	s.t.Helper()
	got, err := s.client.Batch(s.t.Context(), batch)
	if err != nil {
		s.t.Fatal(err)
	}
	return got.GetAttempts()
}

// export returns what the program exports of a project.
func (s *site) export(project string) string {
	s.t.Helper()
	return succeed(s.t, "export", "--project", project, "--store", s.store)
}

// checkNoCrash fails the test if the numbers or the logs speak of crashed batches.
func (s *site) checkNoCrash(job *tallymanv1.Job, servers ...*process) {
	s.t.Helper()
	if crashes := job.GetLastCrashes(); len(crashes) > 0 {
		s.t.Errorf("the job tells of crashes: %v", crashes)
	}
	for _, p := range servers {
		for line := range strings.Lines(p.stderr.String()) {
			if strings.Contains(line, "batch crashed") || strings.Contains(line, "batch failed") {
				s.t.Errorf("%s says: %s", p.name, line)
			}
		}
	}
}
