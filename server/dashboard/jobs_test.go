package dashboard_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/tallyman-dev/tallyman/worker"
)

// A list that is open shows jobs as they come, move and end; nothing of what others named them is taken for HTML.
func TestJobsAreFollowed(t *testing.T) {
	t.Parallel()
	onBoth(t, func(s *site) {
		pass := make(chan struct{})
		s.work("w", "test", 1, worker.HandlerFunc(func(ctx context.Context, b *worker.Batch) error {
			select {
			case <-pass:
			case <-ctx.Done():
				return ctx.Err()
			}
			return store(ctx, b)
		}))
		p := look(s)
		p.open("/")
		p.says("There are no jobs yet.")
		id := s.submit(`kind=test&project=my-project&file_name=%3Cb%3Ea%3C/b%3E.jsonl&policy.batch_items=2`, lines(6))
		p.until(`document.querySelector('td.name').innerText.startsWith('<b>a</b>.jsonl')`)
		p.until(`document.querySelector('td.st').innerText === 'running'`)
		p.press("td.name a", "<b>a</b>.jsonl")
		p.until(fmt.Sprintf(`location.pathname === '/jobs/%s'`, id))
		p.until(`document.querySelector('h1').innerText.startsWith('<b>a</b>.jsonl')`)
		close(pass)
		p.until(`document.querySelector('.head .state').innerText === 'succeeded'`)
		p.says("6 of 6 items")
		p.until(`document.querySelector('.live').innerText === 'ended'`)
		p.press(".top nav a", "Jobs")
		p.until(`document.querySelector('td.st').innerText === 'succeeded'`)
		p.calm()
	})
}

// What is searched for, chosen and sorted is found without asking anybody, and the address says it.
func TestJobsAreSearched(t *testing.T) {
	t.Parallel()
	onBoth(t, func(s *site) {
		s.work("w", "test", 4, worker.HandlerFunc(store))
		for i := range 120 {
			s.submit(fmt.Sprintf("kind=test&file_name=file-%d.jsonl&labels.who=me%d", i+1, i%3), lines(1+i%7))
		}
		p := look(s)
		p.open("/")
		rows := func(n int) {
			p.Helper()
			p.until(fmt.Sprintf(`document.querySelectorAll('tbody tr').length === %d`, n))
		}
		p.says("120 jobs")
		rows(50)
		p.press("button", "Last page")
		rows(20)
		p.until(`location.search === '?page=3'`)
		p.enter(`input[type=search]`, "me1 file-11")
		p.says("5 jobs")
		p.until(`location.search === '?q=me1+file-11'`)
		p.press("th button", "Items")
		p.until(`document.querySelector('th[aria-sort=descending] button').innerText.startsWith('Items')`)
		first := value[string](p, `document.querySelector('td.items').innerText`)
		p.press("th button", "Items")
		p.until(fmt.Sprintf(`document.querySelector('td.items').innerText < %q`, first))
		p.enter(`input[type=search]`, "nothing is like that")
		p.says("No job is like that.")
		p.calm()
	})
}
