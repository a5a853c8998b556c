//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// TestFindingsOfACommandAreStored has the example that finds chemicals handle documents, one of which kills its process,
// while the worker is killed twice: what it finds is in the annotation store, once, of every document but that one.
func TestFindingsOfACommandAreStored(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("SKIPPED: no python3 on the PATH, so that the example is not run")
	}
	example, err := filepath.Abs("../examples/exec/chemicals.py")
	if err != nil {
		t.Fatal(err)
	}
	const documents, batch, poison, homeless, waiting = 300, 20, 77, 130, 200
	var file, want strings.Builder
	for n := 1; n <= documents; n++ {
		text, found := "Tea helps.", ""
		switch {
		case n == poison:
			text = "Aspirin and the poison."
		case n >= waiting:
			text, found = "Later, aspirin.", `,"denotations":[{"id":"T1","span":{"begin":7,"end":14},"obj":"Chemical"}]`
		case n%2 == 0:
			text = "Aspirin ≥ caffeine."
			found = `,"denotations":[{"id":"T1","span":{"begin":0,"end":7},"obj":"Chemical"},{"id":"T2","span":{"begin":10,"end":18},"obj":"Chemical"}]`
		}
		if n == homeless {
			fmt.Fprintf(&file, "{\"text\":%q}\n", text)
			continue
		}
		item := fmt.Sprintf(`{"sourcedb":"PubMed","sourceid":"%04d","text":%q`, n, text)
		file.WriteString(item + "}\n")
		if n != poison {
			want.WriteString(item + found + "}\n")
		}
	}
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			s.serve(short...)
			gate := filepath.Join(t.TempDir(), "gate")
			command := `while IFS= read -r line; do case $line in *poison*) kill -SEGV $$; sleep 60;; *Later*) until [ -e '` + gate +
				`' ]; do sleep 0.1; done;; esac; printf '%s\n' "$line"; done | python3 '` + example + `'`
			job := s.upload(writeFile(t, file.String()), client.Upload{Kind: "chemicals", Project: "findings",
				Policy: &tallymanv1.Policy{BatchItems: batch}})
			work := func() *process { return s.work("finder", "--kind", "chemicals", "--slots", "2", "--exec", command) }
			w := work()
			for _, enough := range []int64{1, waiting / 2} {
				eventually(t, jobTimeout, "more items to be stored", func() bool { return s.job(job).GetProgress().GetItemsEnded() >= enough })
				w.kill()
				w = work()
			}
			if err := os.WriteFile(gate, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			ended := s.await(job)
			got := outcomes(ended)
			if diff := gocmp.Diff(map[tallymanv1.Outcome]int64{isStored: documents - 2, isCrashed: 1, isRejected: 1}, got); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			if diff := gocmp.Diff(want.String(), s.export("findings")); diff != "" {
				t.Errorf("export (-want +got):\n%s", diff)
			}
			for _, f := range s.findings(job) {
				if n := f.GetItem(); n != poison && n != homeless {
					t.Errorf("a finding about item %d: %v", n, f)
				}
			}
		})
	}
}
