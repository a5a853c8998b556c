package bench

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRows(t *testing.T) {
	result := func(engine string, value float64) Result {
		return Result{Scenario: "drain", Engine: engine, Metrics: []Metric{{"drained", value, "batches/s"}}}
	}
	got := Rows([]Result{result("sqlite", 10), result("postgres", 7), result("sqlite", 40), result("sqlite", 20), result("postgres", 9)})
	want := []Row{
		{Scenario: "drain", Engine: "sqlite", Metric: "drained", Unit: "batches/s", Median: 20, Least: 10, Most: 40, Rounds: 3},
		{Scenario: "drain", Engine: "postgres", Metric: "drained", Unit: "batches/s", Median: 8, Least: 7, Most: 9, Rounds: 2},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestDistribution(t *testing.T) {
	var took []time.Duration
	for n := 200; n > 0; n-- {
		took = append(took, time.Duration(n)*time.Millisecond)
	}
	var r Result
	r.Distribution("idle", took)
	want := []Metric{{"idle p50", 100, "ms"}, {"idle p99", 198, "ms"}, {"idle max", 200, "ms"}}
	if diff := cmp.Diff(want, r.Metrics); diff != "" {
		t.Errorf("of 1 to 200 ms (-want +got):\n%s", diff)
	}
}

func TestTable(t *testing.T) {
	for value, want := range map[float64]string{
		0: "0", 0.034: "0.03", 1.5: "1.50", 12.34: "12.3", 999.6: "1,000", 1234567: "1,234,567", -17.2: "-17.2", -4321: "-4,321",
	} {
		if got := number(value); got != want {
			t.Errorf("number(%v) = %q, want %q", value, got, want)
		}
	}
	var b strings.Builder
	if err := WriteTable(&b, []Row{{"drain", "sqlite", "drained", "batches/s", 4068, 4000, 5000, 3}}); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(strings.Fields(b.String()), " "), "scenario engine metric median least most rounds unit "+
		"drain sqlite drained 4,068 4,000 5,000 3 batches/s"; got != want {
		t.Errorf("table %q, want %q", got, want)
	}
}

// TestFifths has a queue that is drained at 100 a second at first, and at 50 in the end.
func TestFifths(t *testing.T) {
	var p pace
	start := time.Now()
	p.note(start.Add(-time.Minute), 0) // it waited before it began
	done := int64(0)
	for tick := range 101 {
		p.note(start.Add(time.Duration(tick)*100*time.Millisecond), done)
		if tick < 50 {
			done += 10
		} else {
			done += 5
		}
	}
	first, last, err := p.fifths()
	if err != nil || first != 100 || last != 50 {
		t.Errorf("fifths %v and %v, %v; want 100 and 50", first, last, err)
	}
	if _, _, err := p[:9].fifths(); err == nil {
		t.Error("nine moments make a pace, want an error")
	}
}

func TestLines(t *testing.T) {
	got, err := io.ReadAll(newLines(3))
	if want := "{}\n{}\n{}\n"; err != nil || string(got) != want {
		t.Errorf("three lines: %q, %v; want %q", got, err, want)
	}
}

func TestConfig(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no program":  func(c *Config) { c.Program = "" },
		"odd workers": func(c *Config) { c.Slots, c.Workers = 10, 3 },
		"no rounds":   func(c *Config) { c.Rounds = 0 },
		"no time":     func(c *Config) { c.Watched = 0 },
	} {
		c := Defaults()
		c.Program = "x"
		if err := c.Validate(); err != nil {
			t.Errorf("the defaults are refused: %v", err)
		}
		if change(&c); c.Validate() == nil {
			t.Errorf("%s: %+v is valid", name, c)
		}
	}
}

func TestProcessorTime(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("this system has no /proc, so processor times are left out")
	}
	before := processorTime(os.Getpid())
	for processorTime(os.Getpid()) < before+2*clockTick { // it counts what it costs itself
	}
	if got := peakMemory(os.Getpid()); got < 1<<20 {
		t.Errorf("this process has had %d bytes at most", got)
	}
}

func TestMined(t *testing.T) {
	lines, guilty := mined(10, 2)
	want := map[int64]bool{3: true, 8: true}
	if diff := cmp.Diff(want, guilty); diff != "" {
		t.Errorf("culprits (-want +got):\n%s", diff)
	}
	for n, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		if kills := strings.Contains(line, culprit); kills != want[int64(n)+1] {
			t.Errorf("line %d is %s", n+1, line)
		}
	}
	if lines, guilty := mined(3, 3); strings.Count(lines, culprit) != 3 || len(guilty) != 3 {
		t.Errorf("all of three: %s", lines)
	}
}
