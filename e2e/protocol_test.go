//go:build linux

package e2e

import (
	"strings"
	"testing"
)

// The life of a worker, as docs/protocol.md tells it call by call, by a program that knows nothing of Tallyman.
func TestProtocolDocument(t *testing.T) {
	t.Parallel()
	s := sqliteSite(t)
	doc := markdown{path: "../docs/protocol.md", shell: shell{dir: t.TempDir()}}
	doc.examples = map[string]example{
		"sh serve": func(t testing.TB, b block) {
			t.Helper()
			command, ok := strings.CutPrefix(strings.TrimSpace(b.text), "tallyman serve ")
			if !ok {
				t.Fatalf("not a server: %s", b.text)
			}
			s.serve(strings.Fields(command)...)
			doc.shell.real = strings.NewReplacer("127.0.0.1:7650", s.address)
		},
		"sh call": doc.setup,
	}
	doc.test(t)
}
