package worker_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/worker"
)

// keeper has records of jobs.
type keeper struct {
	worker.HandlerFunc
	forget func(ctx context.Context, jobs []int64) error // before it is done; may be nil

	mu      sync.Mutex
	jobs    []int64
	told    []int64
	at      []time.Time // of calls of Forget
	listed  []time.Time // of calls of Recorded for a first page
	cluster string
}

func (k *keeper) Recorded(_ context.Context, cluster string, after int64, limit int) ([]int64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cluster = cluster
	if after == 0 {
		k.listed = append(k.listed, time.Now())
	}
	i, _ := slices.BinarySearch(k.jobs, after+1)
	return slices.Clone(k.jobs[i:min(i+limit, len(k.jobs))]), nil
}

func (k *keeper) Forget(ctx context.Context, _ string, jobs []int64) error {
	k.mu.Lock()
	k.at = append(k.at, time.Now())
	k.mu.Unlock()
	if k.forget != nil {
		if err := k.forget(ctx, jobs); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.told = append(k.told, jobs...)
	k.jobs = slices.DeleteFunc(k.jobs, func(job int64) bool { return slices.Contains(jobs, job) })
	return nil
}

func unknownTo(t *testing.T, cluster string) error {
	t.Helper()
	return refusalWith(t, codes.NotFound, "JOB_NOT_FOUND", map[string]string{"cluster_id": cluster})
}

// A job is forgotten when it has been deleted, no attempt can believe in a lease of it any more, and not before.
func TestForgetDeletedJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		k := &keeper{HandlerFunc: storing}
		for job := range int64(2500) { // more than a page
			k.jobs = append(k.jobs, 2*job+1)
		}
		c.unknown = func(job int64) error {
			if job > 2000 && job <= 2999 {
				return unknownTo(t, "cluster")
			}
			return nil
		}
		r := start(t, conn, k, worker.Config{Slots: 1})
		began := time.Now()
		<-time.After(10 * time.Minute)
		var want []int64
		for job := int64(2001); job <= 2999; job += 2 {
			want = append(want, job)
		}
		k.mu.Lock()
		if d := cmp.Diff(want, k.told); d != "" {
			t.Errorf("forgotten (-want +got)\n%s", d)
		}
		first := k.listed[0].Sub(began)
		if first < 20*time.Second || first > 2*time.Minute || len(k.listed) != 1 || k.cluster != "cluster" {
			t.Errorf("looked at %v of cluster %q after %v", k.listed, k.cluster, first)
		}
		if rest := k.at[0].Sub(k.listed[0]); rest < 10*leaseTime || rest > 11*leaseTime {
			t.Errorf("forgotten %v after the jobs were found to be gone, want ten leases", rest)
		}
		k.mu.Unlock()
		<-time.After(95 * time.Minute)
		k.mu.Lock()
		if rounds := len(k.listed); rounds < 2 || rounds > 4 || len(k.at) != 1 {
			t.Errorf("%d looks in 105 minutes, %d of them found something", rounds, len(k.at))
		}
		k.mu.Unlock()
		r.stop()
		if err := r.wait(); err != nil {
			t.Error(err)
		}
	})
}

// Nothing is forgotten unless the database that granted the leases says twice that it does not know the job.
func TestForgetOnlyWhatIsGone(t *testing.T) {
	var calls atomic.Int64
	for name, unknown := range map[string]func(t *testing.T) error{
		"another database": func(t *testing.T) error { t.Helper(); return unknownTo(t, "elsewhere") },
		"nobody says whose": func(t *testing.T) error {
			t.Helper()
			return refusal(t, codes.NotFound, "JOB_NOT_FOUND")
		},
		"not found by a proxy": func(*testing.T) error { return status.Error(codes.NotFound, "no such path") },
		"something else is not found": func(t *testing.T) error {
			t.Helper()
			return refusalWith(t, codes.NotFound, "BATCH_NOT_FOUND", map[string]string{"cluster_id": "cluster"})
		},
		"away": func(*testing.T) error { return unavailable },
		"known again": func(t *testing.T) error {
			t.Helper()
			if calls.Add(1) > 1 {
				return nil
			}
			return unknownTo(t, "cluster")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, conn := serve(t)
				k := &keeper{HandlerFunc: storing, jobs: []int64{4}}
				c.unknown = func(int64) error { return unknown(t) }
				r := start(t, conn, k, worker.Config{Slots: 1, ForgetInterval: time.Hour})
				<-time.After(10 * time.Minute)
				r.stop()
				if err := r.wait(); err != nil {
					t.Error(err)
				}
				if len(k.at) != 0 || len(k.listed) != 1 {
					t.Errorf("forgotten: %v after %d looks", k.told, len(k.listed))
				}
				warned := strings.Contains(r.log.String(), "records of deleted jobs are kept for now")
				if want := name != "known again"; warned != want {
					t.Errorf("a warning: %v, want %v\n%s", warned, want, r.log)
				}
			})
		})
	}
}

// A worker that stops interrupts the forgetting, wherever it is, and waits for it.
func TestStopInterruptsForgetting(t *testing.T) {
	for name, after := range map[string]time.Duration{"before": time.Second, "at rest": 3 * time.Minute, "removing": 10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, conn := serve(t)
				k := &keeper{HandlerFunc: storing, jobs: []int64{4}}
				returned := false
				k.forget = func(ctx context.Context, _ []int64) error {
					<-ctx.Done()
					<-time.After(time.Second)
					returned = true
					return context.Cause(ctx)
				}
				c.unknown = func(int64) error { return unknownTo(t, "cluster") }
				r := start(t, conn, k, worker.Config{Slots: 1})
				<-time.After(after)
				began := time.Now()
				r.stop()
				if err := r.wait(); err != nil {
					t.Error(err)
				}
				removing := name == "removing"
				if took := time.Since(began); returned != removing || took > 2*time.Second {
					t.Errorf("stopped after %v; the forgetting had begun and returned: %v", took, returned)
				}
				if strings.Contains(r.log.String(), "kept for now") {
					t.Errorf("the stop is a failure:\n%s", r.log)
				}
			})
		})
	}
}

func TestForgetFailuresAndNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		c.unknown = func(int64) error { return unknownTo(t, "cluster") }
		k := &keeper{HandlerFunc: storing, jobs: []int64{4}}
		fails := true
		k.forget = func(context.Context, []int64) error {
			if fails {
				fails = false
				return errors.New("the disk is full")
			}
			return nil
		}
		r := start(t, conn, k, worker.Config{Slots: 1, ForgetInterval: 10 * time.Minute})
		never := &keeper{HandlerFunc: storing, jobs: []int64{4}}
		r2 := start(t, conn, never, worker.Config{Slots: 1, ForgetInterval: -1})
		<-time.After(time.Hour)
		r.stop()
		r2.stop()
		if err := errors.Join(r.wait(), r2.wait()); err != nil {
			t.Error(err)
		}
		if d := cmp.Diff([]int64{4}, k.told); d != "" || len(k.at) != 2 || !strings.Contains(r.log.String(), "the disk is full") {
			t.Errorf("forgotten (-want +got)\n%s\nin %d tries:\n%s", d, len(k.at), r.log)
		}
		if len(never.listed) != 0 {
			t.Error("looked for jobs, though never was to")
		}
	})
}
