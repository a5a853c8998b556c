//go:build unix

package main

import (
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/sample"
)

func TestServeOnPostgres(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "empty", nil)
	args := []string{"serve", "--database", dsn, "--listen", "127.0.0.1:0", "--workers", "2"}
	if r := must(t, exitOther, args...); !strings.Contains(r.stderr, "tallyman migrate") {
		t.Errorf("a database without schema is refused without saying what to do: %s", r.stderr)
	}
	for _, want := range []string{"was made, version", "is up to date"} {
		if r := must(t, exitOK, "migrate", "--database", dsn); !strings.Contains(r.stdout, want) {
			t.Errorf("migrate says %q, want that it %s", r.stdout, want)
		}
	}
	must(t, exitOK, "migrate", "--database", dsn, "--store", dsn)
	server := start(t, strings.NewReader(""), args...)
	address := server.await(&server.stdout, `tallyman serves at (\S+)\n`)[1]

	path, made := collection(t, sample.Config{Documents: 100, Bad: 3})
	r := must(t, exitWithErrors, "submit", path, "--server", address, "--watch", "-o", "json")
	by, total := outcomes(t, objects(t, r.stdout)[0])
	if total != made.Items || by["STORED"] != made.Items-made.Bad || by["REJECTED"] != made.Bad {
		t.Errorf("%d items with outcomes %v, want %d of which %d bad", total, by, made.Items, made.Bad)
	}
	exported := must(t, exitOK, "export", "--project", "collection", "--store", dsn)
	if n := lineCount(exported.stdout); n != made.Documents {
		t.Errorf("%d documents, want %d", n, made.Documents)
	}
	if code := server.stop(); code != exitOK {
		t.Errorf("serve ended with %d\n%s", code, server.stderr.String())
	}
}
