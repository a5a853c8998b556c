//go:build linux

package e2e

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestHTTPDocument does what docs/http.md does.
func TestHTTPDocument(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("SKIPPED: no curl on the PATH, so that the examples are not run")
	}
	doc := markdown{path: "../docs/http.md", shell: shell{dir: t.TempDir()}}
	doc.examples = map[string]example{
		"sh serve": func(tb testing.TB, b block) {
			tb.Helper()
			if b.text != "tallyman serve --workers 2 &\n" {
				tb.Fatalf("not what starts the coordinator: %s", b.text)
			}
			doc.shell.real = strings.NewReplacer("http://127.0.0.1:7651", serveHTTP(t, filepath.Join(doc.shell.dir, "data")))
		},
	}
	doc.test(t)
}

var servesHTTP = regexp.MustCompile(`the API by HTTP is at (http://\S+)/api\n`)

// serveHTTP starts a coordinator with workers and returns where it serves HTTP.
func serveHTTP(t *testing.T, data string) string {
	t.Helper()
	p := start(t, "serve", command{args: []string{"serve", "--workers", "2", "--data", data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"}})
	var found []string
	eventually(t, jobTimeout, "the coordinator to say where it serves HTTP", func() bool {
		found = servesHTTP.FindStringSubmatch(p.stdout.String())
		return found != nil || !p.running()
	})
	if found == nil {
		t.Fatal("the coordinator has ended")
	}
	return found[1]
}
