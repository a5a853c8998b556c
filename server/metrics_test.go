package server

import (
	"bufio"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// scrape returns what /metrics says, by series.
func (c *coordinator) scrape() map[string]float64 {
	c.t.Helper()
	answer := httptest.NewRecorder()
	c.server.metrics.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusOK {
		c.t.Fatalf("/metrics answered %d: %s", answer.Code, answer.Body)
	}
	series := map[string]float64{}
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[at+1:], 64)
		c.must(err)
		series[line[:at]] = value
	}
	return series
}

// wantSeries compares some of the series.
func (c *coordinator) wantSeries(want map[string]float64) {
	c.t.Helper()
	all := c.scrape()
	got := map[string]float64{}
	for name := range want {
		value, ok := all[name]
		if !ok {
			c.t.Errorf("there is no %s", name)
			continue
		}
		got[name] = value
	}
	if diff := cmp.Diff(want, got); diff != "" {
		c.t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestMetricsCountWhatHappens(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database, Version: "v1"}, nil)
		data := lines(1, 8)
		id := c.submit(header("counted"), data).GetJobId()
		w := c.register("worker")
		grants := c.claim(w, "1", 3)
		c.settle(w, completed(grants[0]))
		c.settle(w, &pb.Settlement{BatchId: grants[1].GetBatchId(), Attempt: 1, End: pb.AttemptEnd_ATTEMPT_END_FAILED, Message: "no"})
		c.settle(w, &pb.Settlement{BatchId: grants[2].GetBatchId(), Attempt: 1, End: pb.AttemptEnd_ATTEMPT_END_DIED, Message: "oops"})
		for _, g := range append(c.claim(w, "2", 1), c.claim(w, "3", 1)...) {
			c.settle(w, completed(g))
		}
		c.ended(id)
		c.server.events.Current(c.ctx, id) // the fold that ended it is over
		open := c.submit(header("open"), lines(1, 4)).GetJobId()
		c.claimOne(w, "last")
		c.server.events.Current(c.ctx, open)
		c.wantSeries(map[string]float64{
			`tallyman_build_info{version="v1"}`:                        1,
			`tallyman_claims_total`:                                    6,
			`tallyman_settles_total{end="completed"}`:                  3,
			`tallyman_settles_total{end="failed"}`:                     1,
			`tallyman_settles_total{end="died"}`:                       1,
			`tallyman_attempts_ended_total{end="failed"}`:              1,
			`tallyman_attempts_ended_total{end="died"}`:                1,
			`tallyman_expiries_total{end="lost"}`:                      0,
			`tallyman_false_expiries_total`:                            0,
			`tallyman_batch_duration_seconds_count`:                    4,
			`tallyman_jobs_ended_total{state="completed_with_errors"}`: 1,
			`tallyman_jobs{state="running"}`:                           1,
			`tallyman_batches_pending{kind="probe"}`:                   1,
			`tallyman_batches_running{kind="probe"}`:                   1,
			`tallyman_workers{kind="probe"}`:                           1,
			`tallyman_sessions{state="alive"}`:                         1,
			`tallyman_sessions{state="silent"}`:                        0,
			`tallyman_recent_batches{state="completed"}`:               3,
			`tallyman_recent_batches{state="failed"}`:                  1,
			`tallyman_recent_batches_crashed{window="1h"}`:             1,
			`tallyman_crash_rate{window="1h"}`:                         0.25,
			`tallyman_leases`:                                          1,
			`tallyman_watchers`:                                        0,
			`tallyman_uploads_open`:                                    0,
			`tallyman_ingest_bytes_total`:                              float64(len(data) + len(lines(1, 4))),
			`tallyman_ingest_items_total`:                              12,
			`tallyman_ingest_batches_total`:                            6,
			`grpc_server_handled_total{grpc_code="OK",grpc_method="RegisterWorker",grpc_service="tallyman.v1.WorkerService",grpc_type="unary"}`: 1,
		})
		all := c.scrape()
		if all[`tallyman_oldest_pending_seconds{kind="probe"}`] <= 0 && strings.HasPrefix(t.database, "postgres") {
			t.Error("no batch has waited at all")
		}
		if all[`tallyman_commit_size_count{operation="settle"}`] < 5 || all[`tallyman_claim_seconds_count`] < 4 {
			t.Error("the commits were not counted")
		}
		if _, ok := all[`tallyman_database_dead_tuples{table="batches"}`]; ok != strings.HasPrefix(t.database, "postgres") {
			t.Errorf("dead tuples are shown: %v", ok)
		}
		// What people are told by other ways is the same.
		statistics, err := c.admin.GetStatistics(c.ctx, &pb.GetStatisticsRequest{Window: durationpb.New(time.Hour)})
		c.must(err)
		if got, want := all[`tallyman_crash_rate{window="1h"}`], statistics.GetCrashRate(); got != want {
			t.Errorf("the crash rate is %v as a metric, %v in statistics", got, want)
		}
		for _, s := range statistics.GetBatchesByState() {
			name := strings.ToLower(strings.TrimPrefix(s.GetState().String(), "BATCH_STATE_"))
			if got, shown := all[fmt.Sprintf("tallyman_recent_batches{state=%q}", name)]; shown && got != float64(s.GetBatches()) {
				t.Errorf("%v batches %s as a metric, %d in statistics", got, name, s.GetBatches())
			}
		}
	})
}

func TestMetricsCountFalseExpiries(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		c.submit(header("late"), lines(1, 4))
		w := c.register("sleeper")
		grants := c.claim(w, "1", 2)
		pass(2 * time.Minute)
		c.wantSeries(map[string]float64{
			`tallyman_expiries_total{end="lost"}`: 2, `tallyman_false_expiries_total`: 0, `tallyman_detection_seconds_count`: 2,
			`tallyman_leases`: 0, `tallyman_attempts_ended_total{end="lost"}`: 2, `tallyman_recent_batches_crashed{window="1h"}`: 0,
			`tallyman_sessions{state="silent"}`: 1, `tallyman_workers{kind="probe"}`: 0,
		})
		after := c.scrape()[`tallyman_detection_seconds_sum`]
		if after < 60 || after > 90 {
			t.Errorf("detection of two took %v s together, want somewhat more than two leases of 30 s", after)
		}
		for range 2 { // a settlement that is repeated says nothing new
			if got := c.settle(w, completed(grants[0])).GetStatus(); got != pb.SettleStatus_SETTLE_STATUS_LEASE_LOST {
				t.Errorf("a late settlement was answered with %v", got)
			}
		}
		c.wantSeries(map[string]float64{`tallyman_false_expiries_total`: 1, `tallyman_settles_total{end="completed"}`: 0})
	})
}

// The database is read at most every few seconds, and what is shown meanwhile says how old it is.
func TestMetricsAreReadSeldom(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		pending := `tallyman_batches_pending{kind="probe"}`
		c.scrape()
		pass(time.Second)
		c.submit(header("new"), lines(1, 4))
		pass(time.Second)
		early := c.scrape()
		if _, shown := early[pending]; shown || early["tallyman_figures_age_seconds"] != 2 {
			t.Errorf("after 2 s: %v pending, figures of %v s ago", early[pending], early["tallyman_figures_age_seconds"])
		}
		pass(5 * time.Second)
		c.wantSeries(map[string]float64{pending: 2, "tallyman_figures_age_seconds": 0})
		if age := c.scrape()[`tallyman_oldest_pending_seconds{kind="probe"}`]; age < 5.9 || age > 6 {
			t.Errorf("the oldest batch has waited for %v s, want 6", age)
		}
	})
}

// The number of series grows neither with jobs, nor with documents, projects or workers.
func TestMetricsHaveBoundedCardinality(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		work := func(from, to int) {
			for n := from; n < to; n++ {
				h := header(fmt.Sprintf("upload-%d", n))
				h.Project, h.Labels = fmt.Sprintf("project-%d", n), map[string]string{"n": strconv.Itoa(n)}
				id := c.submit(h, lines(100*n, 3)).GetJobId()
				w := c.register(fmt.Sprintf("worker-%d", n))
				for _, g := range c.claim(w, "1", 8) {
					c.settle(w, completed(g))
				}
				c.ended(id)
				_, err := c.workers.DeregisterWorker(c.ctx, &pb.DeregisterWorkerRequest{SessionId: w})
				c.must(err)
			}
			pass(time.Minute)
		}
		names := func() []string { return slices.Sorted(maps.Keys(c.scrape())) }
		work(0, 3)
		names() // a scrape may add what says how long scrapes take
		before := names()
		work(3, 60)
		if diff := cmp.Diff(before, names()); diff != "" {
			t.Errorf("series after 3 jobs and after 60 (-before +after):\n%s", diff)
		}
		for n := range 70 {
			h := header(fmt.Sprintf("kind-%d", n))
			h.Kind = fmt.Sprintf("kind-%d", n)
			c.submit(h, lines(1, 2))
		}
		pass(time.Minute)
		kinds := 0.0
		shown := 0
		for name, value := range c.scrape() {
			if strings.HasPrefix(name, "tallyman_batches_pending{") {
				shown++
				kinds += value
			}
		}
		if shown != 51 || kinds != 70 {
			t.Errorf("%d kinds are shown, with %v batches", shown, kinds)
		}
	})
}
