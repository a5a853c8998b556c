package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/tallyman-dev/tallyman/bench/postgres"
	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// noopKind is the kind of jobs whose handler does nothing.
const noopKind = "noop"

// startTimeout bounds the start of a process, until it can be used.
const startTimeout = time.Minute

// site is a coordinator on a database of its own, with workers.
type site struct {
	program string
	dir     string // of the data folder and of logs
	flags   []string
	db      *postgres.Database // nil: SQLite
	server  *process
	address string
	client  *client.Client
	workers []*process
}

// open makes a database and starts a coordinator on it.
func open(ctx context.Context, c Config, engine Engine, flags ...string) (_ *site, err error) {
	dir, err := os.MkdirTemp(c.Dir, "tallyman-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	s := &site{program: c.Program, dir: dir, flags: flags}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(context.WithoutCancel(ctx)))
		}
	}()
	if engine == Postgres {
		if s.db, err = postgres.Create(ctx, c.Database); err != nil {
			return nil, err
		}
		migrate, err := start(ctx, dir, "migrate", s.program, "migrate", "--database", s.db.DSN)
		if err != nil {
			return nil, err
		}
		<-migrate.ended
		if migrate.err != nil {
			return nil, migrate.failed()
		}
	}
	return s, s.serve(ctx)
}

var serves = regexp.MustCompile(`tallyman serves at (\S+)`)

func (s *site) serve(ctx context.Context) error {
	s.address = ""
	args := append([]string{"serve", "--listen", "127.0.0.1:0", "--log-level", "warn"}, s.flags...)
	if s.db != nil {
		args = append(args, "--database", s.db.DSN)
	} else {
		args = append(args, "--data", filepath.Join(s.dir, "data"))
	}
	var err error
	if s.server, err = start(ctx, s.dir, "serve", s.program, args...); err != nil {
		return err
	}
	err = await(ctx, "the coordinator to say where it listens", func() (bool, error) {
		select {
		case <-s.server.ended:
			return false, s.server.failed()
		default:
		}
		said, err := os.ReadFile(s.server.log)
		if m := serves.FindSubmatch(said); m != nil {
			s.address = string(m[1])
		}
		return s.address != "", err
	})
	if err != nil {
		return err
	}
	s.client, err = client.New(client.Config{Address: s.address})
	return err
}

// work starts workers that do nothing with what they get, of so many slots each, and waits until all are there.
func (s *site) work(ctx context.Context, processes, slots int) error {
	return s.hire(ctx, processes, "bench", "work", "--slots", strconv.Itoa(slots))
}

// hire starts workers with a command line of the program, and waits until all are there.
func (s *site) hire(ctx context.Context, processes int, args ...string) error {
	for n := range processes {
		p, err := start(ctx, s.dir, "worker-"+strconv.Itoa(n+1), s.program, append(args[:len(args):len(args)], "--server", s.address)...)
		if err != nil {
			return err
		}
		s.workers = append(s.workers, p)
	}
	return await(ctx, "the workers to register", func() (bool, error) {
		registered := 0
		for _, err := range s.client.Workers(ctx, &tallymanv1.ListWorkersRequest{}) {
			if err != nil {
				return false, err
			}
			registered++
		}
		for _, p := range s.workers {
			select {
			case <-p.ended:
				return false, p.failed()
			default:
			}
		}
		return registered == processes, nil
	})
}

// upload submits a job for workers that do nothing.
func (s *site) upload(ctx context.Context, items int64, policy *tallymanv1.Policy) (int64, error) {
	return s.submit(ctx, noopKind, items, policy)
}

// submit submits a job of a kind.
func (s *site) submit(ctx context.Context, kind string, items int64, policy *tallymanv1.Policy) (int64, error) {
	up, err := s.client.Upload(ctx, newLines(items), client.Upload{Kind: kind, FileName: "bench.jsonl", Policy: policy})
	if err != nil {
		return 0, fmt.Errorf("upload %d items: %w", items, err)
	}
	return up.JobID, nil
}

// ended waits for the end of a job, which must have succeeded.
func (s *site) ended(ctx context.Context, job int64) (*tallymanv1.Job, error) {
	var last *tallymanv1.Job
	for seen, err := range s.client.Watch(ctx, job) {
		if err != nil {
			return nil, fmt.Errorf("watch job %d: %w", job, err)
		}
		last = seen
	}
	if last.GetState() != tallymanv1.JobState_JOB_STATE_SUCCEEDED {
		return nil, fmt.Errorf("job %d ended as %v", job, last.GetState())
	}
	return last, nil
}

// close ends every process, in order, and removes what the site left.
func (s *site) close(ctx context.Context) error {
	var errs []error
	for _, p := range s.workers {
		errs = append(errs, p.stop())
	}
	if s.client != nil {
		errs = append(errs, s.client.Close())
	}
	if s.server != nil {
		errs = append(errs, s.server.stop())
	}
	if s.db != nil {
		errs = append(errs, s.db.Drop(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w\nthe logs are in %s", err, s.dir)
	}
	return os.RemoveAll(s.dir)
}

// await asks until the answer is yes.
func await(ctx context.Context, what string, ready func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("waited %v for %s", startTimeout, what))
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		yes, err := ready()
		if err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		if yes {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
