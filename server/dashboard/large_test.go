package dashboard_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/worker"
)

// A page with many batches, and one with many jobs, draw and follow all of them. TALLYMAN_TEST_LARGE is how many batches there
// are, and a tenth of it jobs; the times and bytes are told, and no test.
func TestManyBatchesAndJobs(t *testing.T) {
	t.Parallel()
	n := 1000
	if text := os.Getenv("TALLYMAN_TEST_LARGE"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, "sqlite:"+t.TempDir()+"/tallyman.db")
	id := s.submit("kind=test&policy.batch_items=1", lines(n))
	p := look(s)
	measure := func(what string, do func()) {
		began, before := time.Now(), p.received()
		do()
		t.Logf("%s: %v, %d bytes, longest task %v ms", what, time.Since(began).Round(time.Millisecond), p.received()-before,
			value[float64](p, `window.longest`))
		value[bool](p, `(window.longest = 0, true)`)
	}
	legend := func(state string, batches int) string {
		return fmt.Sprintf(`[...document.querySelectorAll('.map .legend li')].some((l) => l.innerText.replace(/\s+/g, ' ').trim() === %q)`,
			state+" "+grouped(batches))
	}
	measure(fmt.Sprintf("the page of a job of %d batches", n), func() {
		p.open("/jobs/" + id)
		p.until(legend("pending", n))
	})
	measure("until the first hundred have completed on it", func() {
		s.work("w", "test", 8, worker.HandlerFunc(store))
		p.until(`[...document.querySelectorAll('.map .legend li')].some((l) => l.innerText.startsWith('completed') &&
			Number(l.innerText.replace(/\D/g, '')) >= 100)`)
	})
	p.shoot("map", false, 1280, 800)
	for i := range n / 10 {
		s.submit(fmt.Sprintf("kind=test&file_name=file-%d.jsonl", i+1), "{}\n")
	}
	measure(fmt.Sprintf("the list of %d jobs", n/10+1), func() {
		p.open("/")
		p.says(fmt.Sprintf("%s jobs", grouped(min(n/10+1, 10_000))))
	})
	measure("until a new one is in it", func() {
		s.submit("kind=test&file_name=the-last.jsonl", "{}\n")
		p.says("the-last.jsonl")
	})
	measure("until what is searched for is found", func() {
		p.enter(`input[type=search]`, "file-77.jsonl")
		p.says("1 job\n")
	})
	p.shoot("jobs-many", false, 1280, 800)
	p.calm()
}

// grouped writes a number as the pages do.
func grouped(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}
