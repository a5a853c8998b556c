package storetest

import (
	"database/sql"
	"io/fs"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	migrations "github.com/tallyman-dev/tallyman/migrations/store"
)

// firstRelease is what the first release's schema holds after job 1 has stored two passages. Both engines take it.
var firstRelease = []string{
	`INSERT INTO fences (batch_id, attempt) VALUES (1, 1)`,
	`INSERT INTO store_owner (cluster_id, singleton) VALUES ('` + cluster + `', TRUE)`,
	`INSERT INTO documents (id, sourcedb, sourceid, text, length, text_sha256, composed_by) VALUES (7, 'P', '1', 'a
b', 3, HASH, 1)`,
	`INSERT INTO project_documents (id, project, sourcedb, sourceid, document_id, replaced_by) VALUES (5, 'upgrade', 'P', '1', 7, 1)`,
	`INSERT INTO store_items (job_id, item, document_id, project_document_id, outcome, text_begin, text_length)
	 VALUES (1, 1, 7, 5, 1, 0, 1), (1, 2, 7, 5, 2, 2, 1)`,
	`INSERT INTO annotation_spans (project_document_id, id, job_id, item, ordinal, block, begins, ends, given_id, obj)
	 VALUES (5, 'T1', 1, 1, 0, FALSE, 0, 1, NULL, 'Word'), (5, 'T1.2', 1, 2, 0, FALSE, 0, 1, 'T1', 'Word')`,
}

// Upgrade opens, by open, a store that the first release has left in a database, which is empty as yet. Hash is a literal
// of 32 bytes; folder is that of the engine's migrations.
func Upgrade(t *testing.T, db *sql.DB, dialect database.Dialect, folder string, hash string, open func() store.Store) {
	t.Helper()
	files, err := fs.Sub(migrations.FS, folder)
	if err != nil {
		t.Fatal(err)
	}
	versions, err := database.NewStore(dialect, migrations.VersionTable)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider("", db, files, goose.WithStore(versions), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for _, statement := range firstRelease {
		statement = strings.Replace(statement, "HASH", hash, 1)
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	s := open()
	f := &fixture{T: t, store: s}
	f.writer = f.newWriter(s)
	const before = `{"sourcedb":"P","sourceid":"1","text":"a\nb","denotations":[{"id":"T1","span":{"begin":0,"end":1},"obj":"Word"},{"id":"T1.2","span":{"begin":2,"end":3},"obj":"Word"}]}`
	f.wantExport("upgrade", before)
	// The job goes on, and others after it.
	late := parse(t, word("x", "T1")+word("x", "T1")+word("c", "T3"))[2:]
	f.wantOutcomes(f.put(job(1, "upgrade"), late), annotation.Stored)
	f.wantOutcomes(f.put(in(store.ModeMerge, 2, "upgrade"), parse(t, word("b", "T1")+word("c", "T2"))), annotation.Stored, annotation.Stored)
	f.wantExport("upgrade", strings.Replace(before[:len(before)-2], `a\nb`, `a\nb\nc`, 1)+`,{"id":"T3","span":{"begin":4,"end":5},"obj":"Word"}]}`)
	f.put(job(3, "upgrade"), parse(t, word("b", "T9")))
	f.wantExport("upgrade", `{"sourcedb":"P","sourceid":"1","text":"a\nb\nc","denotations":[{"id":"T9","span":{"begin":2,"end":3},"obj":"Word"}]}`)
}
