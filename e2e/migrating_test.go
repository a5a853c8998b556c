//go:build linux

package e2e

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Everything that docs/migrating.md says can be done is done, on both engines, on a coordinator with a past.
func TestMigratingDocument(t *testing.T) {
	t.Parallel()
	for _, engine := range []struct {
		name  string
		start func(t testing.TB) *history
	}{{"postgres", postgresHistory}, {"sqlite", sqliteHistory}} {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			m := &migration{h: engine.start(t), postgres: engine.name == "postgres", stubbed: map[string]bool{}}
			m.document(t).test(t)
		})
	}
}

// migration is docs/migrating.md on one engine.
type migration struct {
	h        *history
	postgres bool
	doc      markdown
	model    string          // in Ruby, with its connection
	stubbed  map[string]bool // languages that code was generated for
}

const (
	onPostgres = 1 << iota
	onSQLite
	everywhere = onPostgres | onSQLite
)

func (m *migration) document(t testing.TB) *markdown {
	t.Helper()
	h := m.h
	m.doc = markdown{path: "../docs/migrating.md", shell: shell{
		dir:  t.TempDir(),
		env:  []string{"TALLYMAN_SERVER=" + h.address, "TALLYMAN_STORE=" + h.store, "TALLYMAN_DATABASE_URL=" + m.url(t)},
		real: strings.NewReplacer("127.0.0.1:7650", h.address),
	}}
	m.write(t, "tallyman.log", h.server.stderr.String())
	m.write(t, "collection.jsonl", `{"sourcedb":"PubMed","sourceid":"1","text":"Aspirin helps.","denotations":[{"id":"T1","span":{"begin":0,"end":7},"obj":"Drug"}]}
{"sourcedb":"PubMed","sourceid":"2","text":"It does."}
`)
	proto, err := filepath.Abs("../proto")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(proto, filepath.Join(m.doc.shell.dir, "proto")); err != nil {
		t.Fatal(err)
	}
	const (
		death   = "the command died: the process was killed by SIGSEGV"
		culprit = `[{"sourcedb":"PMC","sourceid":"4402193"}]|` + death
		another = `[{"sourcedb":"PMC","sourceid":"4402195"}]|` + death
	)
	documents := []string{"128|PMC|4402193", "130|PMC|4402195"}
	m.doc.examples = map[string]example{
		"sh call":       m.doc.setup,
		"yaml database": m.database,
		"ruby model":    m.defineModel,
		"ruby console":  m.console,
		"sql reader":    m.reader,

		"sql crashed-of-a-day":        m.sql(onPostgres, "7|128|"+culprit+"|…"),
		"sql crashed-of-a-day-sqlite": m.sql(onSQLite, "7|128|"+culprit+"|…"),
		"sql documents":               m.sql(onPostgres, documents...),
		"sql documents-sqlite":        m.sql(onSQLite, documents...),
		"sql first-document":          m.sql(everywhere, "128|4402193", "130|4402195"),
		"sql culprits":                m.sql(everywhere, "128|14|PMC:4402193", "130|16|PMC:4402195"),
		"sql average":                 m.sql(onPostgres, "29.00000…"),
		"sql average-sqlite":          m.sql(onSQLite, "29…"),
		"sql last-hour":               m.sql(onPostgres, "completed|3|42.9", "failed|3|42.9", "crashed|1|14.3"),
		"sql last-hour-sqlite":        m.sql(onSQLite, "completed|3|42.9", "failed|3|42.9", "crashed|1|14.3"),
		"sql failures": m.sql(everywhere, "tagger: connection refused|2", death+"|2",
			"cancelled: wrong file|1", "tagger: no model for human|1"),
		"sql stale":        m.sql(onPostgres, "125|…"),
		"sql stale-sqlite": m.sql(onSQLite, "125|…"),
		"sql waiting":      m.sql(everywhere, "8|131|the worker was started again"),
		"sql job":          m.sql(everywhere, "completed|5", "crashed|2", "failed|3", "pending|1", "running|1"),
		"sql by-status":    m.sql(everywhere, "117|completed|2", "118|completed|2", "119|completed|2", "125|running|2", "127|completed|1", "129|completed|1"),
		"sql crashed":      m.sql(everywhere, "128|"+culprit+"|…|…", "130|"+another+"|…|…"),
		"sql find":         m.sql(everywhere, "7|124|crashed"),
		"sql slowest": func(t testing.TB, b block) {
			t.Helper()
			m.sql(onPostgres, "119|00:01:00", "129|00:00:40")(t, b)
			m.sql(onSQLite, "119|60", "129|40")(t, b)
		},

		"sql retried": m.soon(m.rows, "128|pending|"+death, "130|pending|"),
		"sql deleted": m.sql(everywhere, "0"),

		"sh submit":                 m.submit,
		"ruby submit-ruby":          m.program("ruby", "json", "open3"),
		"python submit-python":      m.program("python3"),
		"sh stubs-ruby":             m.stubs("ruby", "grpc"),
		"ruby submit-ruby-grpc":     m.program("ruby", "grpc"),
		"sh stubs-python":           m.stubs("python3", "grpc", "grpc_tools"),
		"python submit-python-grpc": m.program("python3", "grpc", "grpc_tools"),

		"sh count-file": m.output("2\n"),
		"sh count-here": m.soon(m.printed, "job\tstate\tproject\titems\tended\n…\tsucceeded\tmy-corpus\t2\t2\n7"),
		"sh export": m.output(`{"sourcedb":"PMC",…
`),
	}
	return &m.doc
}

// url names the database for programs that know no Unix sockets in a URL.
func (m *migration) url(t testing.TB) string {
	t.Helper()
	u, err := url.Parse(m.h.store)
	if err != nil || !m.postgres || u.Host != "" {
		return m.h.store
	}
	u.Host, u.RawQuery = "127.0.0.1:"+m.h.query(t, `SHOW port`)[0][0], ""
	return u.String()
}

func (m *migration) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.doc.shell.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// sql tests a query by its rows, on the engines for which it is meant.
func (m *migration) sql(engines int, want ...string) example {
	return func(t testing.TB, b block) {
		t.Helper()
		if m.postgres && engines&onPostgres == 0 || !m.postgres && engines&onSQLite == 0 {
			return
		}
		if got := m.rows(t, b); !pattern(strings.Join(want, "\n") + "\n").MatchString(got) {
			t.Errorf("rows:\n%s\nwant, with … for anything:\n%s", got, strings.Join(want, "\n"))
		}
	}
}

// rows and printed return what a query and a shell block show.
func (m *migration) rows(t testing.TB, b block) string {
	t.Helper()
	var all strings.Builder
	for _, row := range m.h.query(t, b.text) {
		all.WriteString(strings.Join(row, "|") + "\n")
	}
	return all.String()
}

func (m *migration) printed(t testing.TB, b block) string {
	t.Helper()
	return m.doc.shell.run(t, b.text).stdout
}

// soon tests what comes to be shown a moment later.
func (m *migration) soon(show func(t testing.TB, b block) string, want ...string) example {
	return func(t testing.TB, b block) {
		t.Helper()
		expected, got := pattern(strings.Join(want, "\n")+"\n"), ""
		if !within(jobTimeout, func() bool { got = show(t, b); return expected.MatchString(got) }) {
			t.Errorf("shown:\n%s\nwant, with … for anything:\n%s", got, strings.Join(want, "\n"))
		}
	}
}

// output tests what a shell block prints, where the document does not show it.
func (m *migration) output(want string) example {
	return func(t testing.TB, b block) {
		t.Helper()
		if got := m.doc.shell.run(t, b.text).stdout; !pattern(want).MatchString(got) {
			t.Errorf("output (-want +got):\n%s", cmp.Diff(want, got))
		}
	}
}

// reader grants a role the view, which shows it batches and nothing else. Roles belong to the whole server, so that
// the transaction is rolled back.
func (m *migration) reader(t testing.TB, b block) {
	t.Helper()
	if !m.postgres {
		return
	}
	m.h.query(t, "BEGIN; "+b.text+" SET LOCAL ROLE rails_reader; SELECT 1")
	defer m.h.query(t, "ROLLBACK")
	got := m.h.query(t, `SELECT count(*), has_table_privilege('batch_job_trackings', 'UPDATE'), has_table_privilege('batches', 'SELECT'),
		has_table_privilege('batch_payloads', 'SELECT') FROM batch_job_trackings`)
	if diff := cmp.Diff([][]string{{"16", "f", "f", "f"}}, got); diff != "" {
		t.Errorf("batches seen, and rights (-want +got):\n%s", diff)
	}
}

// interpreterOf returns the interpreter that the system's packages bring, for which tools/languages.sh gets libraries, or
// any other one.
func interpreterOf(language string) string {
	if system := "/usr/bin/" + language; exists(system) {
		return system
	}
	return language
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// interpreter skips a test where the language, or a library of its that the document needs, is not installed. As root
// `make test` installs them.
func interpreter(t testing.TB, language string, libraries ...string) {
	t.Helper()
	load := map[string]string{"ruby": "require '", "python3": "import "}[language]
	end := map[string]string{"ruby": "'; ", "python3": "; "}[language]
	flag := map[string]string{"ruby": "-e", "python3": "-c"}[language]
	if _, err := exec.LookPath(language); err != nil {
		t.Skipf("SKIPPED: no %s on the PATH, so that this example is not run", language)
	}
	var script strings.Builder
	for _, library := range libraries {
		script.WriteString(load + library + end)
	}
	if out, err := exec.CommandContext(t.Context(), interpreterOf(language), flag, script.String()).CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Skipf("SKIPPED: %s lacks one of %v, so that this example is not run: %s", language, libraries, lines[len(lines)-1])
	}
}

// run runs a program of another language and returns what it prints.
func (m *migration) run(t testing.TB, language, text string) string {
	t.Helper()
	text = m.doc.shell.real.Replace(text)
	m.write(t, "program", text)
	if language == "ruby" {
		m.doc.shell.run(t, "ruby -c program")
	}
	return m.doc.shell.run(t, language+" program").stdout
}

// database is the configuration of the model's connection.
func (m *migration) database(t testing.TB, b block) {
	t.Helper()
	for _, needed := range []string{"tallyman:\n", "adapter: postgresql\n", `url: <%= ENV["TALLYMAN_DATABASE_URL"] %>`, "database_tasks: false\n"} {
		if !strings.Contains(b.text, needed) {
			t.Errorf("no %q", needed)
		}
	}
	m.model = "require 'active_record'\nrequire 'active_support/all'\nrequire 'erb'\nrequire 'yaml'\n" +
		"ActiveRecord::Base.configurations = { 'default_env' => YAML.safe_load(ERB.new(<<'END').result) }\n" + b.text + "END\n"
}

// defineModel defines the model and sees that it writes nothing.
func (m *migration) defineModel(t testing.TB, b block) {
	t.Helper()
	m.model += b.text
	if !m.postgres {
		return
	}
	interpreter(t, "ruby", "active_record", "pg")
	const writes = `
[-> { BatchJobTracking.find(124).update(status: "pending") }, -> { BatchJobTracking.create!(status: "pending") },
 -> { BatchJobTracking.find(124).destroy }, -> { BatchJobTracking.crashed.update_all(status: "pending") }].each do |write|
  write.call
  puts "written"
rescue ActiveRecord::ReadOnlyRecord, ActiveRecord::StatementInvalid => e
  puts e.class
end
`
	want := strings.Repeat("ActiveRecord::ReadOnlyRecord\n", 3) + "ActiveRecord::StatementInvalid\n"
	if diff := cmp.Diff(want, m.run(t, "ruby", m.model+writes)); diff != "" {
		t.Errorf("writing (-want +got):\n%s", diff)
	}
}

// console is a session of a Rails console. What its scopes ask is asked in SQL by other examples, too.
func (m *migration) console(t testing.TB, b block) {
	t.Helper()
	if !m.postgres {
		return
	}
	interpreter(t, "ruby", "active_record", "pg")
	var session strings.Builder
	for line := range strings.Lines(b.text) {
		session.WriteString("p((" + strings.TrimSpace(line) + "))\n")
	}
	want := `[["completed", 5], ["crashed", 4], ["failed", 3], ["pending", 1], ["running", 1]]
[[128, "the command died: the process was killed by SIGSEGV"], [130, "the command died: the process was killed by SIGSEGV"]]
[128]
[{"sourcedb"=>"PMC", "sourceid"=>"4402186"}, {"sourcedb"=>"PMC", "sourceid"=>"4402187"}]
119
29.0
[125]
`
	if diff := cmp.Diff(want, m.run(t, "ruby", m.model+session.String())); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

// submit has a worker from here on, which takes what waits, too.
func (m *migration) submit(t testing.TB, b block) {
	t.Helper()
	m.h.work("worker")
	m.doc.shell.run(t, b.text)
	job := m.h.job(10)
	if want := "JOB_STATE_SUCCEEDED"; job.GetState().String() != want || job.GetProgress().GetItemsEnded() != 2 {
		t.Errorf("job 10 is %v with %d items ended, want %s with 2", job.GetState(), job.GetProgress().GetItemsEnded(), want)
	}
}

// program tests a program that submits a file and says how it ended.
func (m *migration) program(language string, libraries ...string) example {
	return func(t testing.TB, b block) {
		t.Helper()
		interpreter(t, language, libraries...)
		if slices.Contains(libraries, "grpc") && !m.stubbed[language] {
			t.Skip("SKIPPED: there is no generated code, see the example before")
		}
		got := m.run(t, language, b.text)
		if want := "job …: JOB_STATE_SUCCEEDED, 2 items\n"; !pattern(want).MatchString(got) {
			t.Errorf("output %q, want %q", got, want)
		}
	}
}

// stubs generates code from the protocol.
func (m *migration) stubs(language string, libraries ...string) example {
	return func(t testing.TB, b block) {
		t.Helper()
		interpreter(t, language, libraries...)
		if tool := "grpc_tools_ruby_protoc"; language == "ruby" {
			if _, err := exec.LookPath(tool); err != nil {
				t.Skipf("SKIPPED: no %s on the PATH, so that this example is not run", tool)
			}
		}
		m.doc.shell.run(t, b.text)
		m.stubbed[language] = true
	}
}
