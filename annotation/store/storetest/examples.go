package storetest

import (
	"encoding/json"
	"strings"
	"testing"
)

// Example is a query that the documentation shows, for both engines alike.
type Example struct {
	Name  string
	Query string
	want  [][]string
}

// Examples returns the queries of docs/annotation-store.md.
func Examples() []Example {
	return []Example{
		{
			Name: "What does a project say about a document?",
			Query: `SELECT id, "begin", "end", obj FROM denotations
WHERE project = 'myproject' AND sourcedb = 'PubMed' AND sourceid = '1'
ORDER BY "begin", "end"`,
			want: [][]string{{"T1", "0", "7", "Chemical"}, {"T2", "10", "15", "Verb"}},
		},
		{
			Name: "Which words are annotated, and how?",
			Query: `SELECT d.sourcedb, d.sourceid, a.obj, substr(d.text, a."begin" + 1, a."end" - a."begin") AS words
FROM denotations a JOIN documents d ON d.sourcedb = a.sourcedb AND d.sourceid = a.sourceid
WHERE a.project = 'myproject'
ORDER BY a.obj, words`,
			want: [][]string{{"PubMed", "1", "Chemical", "Aspirin"}, {"PubMed", "1", "Verb", "helps"}, {"P", "1", "Word", "first"}},
		},
		{
			Name: "How many annotations has each label?",
			Query: `SELECT obj, count(*) FROM denotations WHERE project = 'myproject'
GROUP BY obj ORDER BY count(*) DESC, obj`,
			want: [][]string{{"Chemical", "1"}, {"Verb", "1"}, {"Word", "1"}},
		},
		{
			Name: "Which relations hold between which labels?",
			Query: `SELECT s.obj AS subj, r.pred, o.obj AS obj
FROM relations r
JOIN denotations s ON s.project = r.project AND s.sourcedb = r.sourcedb AND s.sourceid = r.sourceid AND s.id = r.subj
JOIN denotations o ON o.project = r.project AND o.sourcedb = r.sourcedb AND o.sourceid = r.sourceid AND o.id = r.obj
WHERE r.project = 'myproject'`,
			want: [][]string{{"Chemical", "does", "Verb"}},
		},
		{
			Name:  "Which attributes are numbers, strings, booleans?",
			Query: `SELECT id, subj, pred, obj FROM attributes WHERE project = 'myproject' ORDER BY id`,
			want: [][]string{
				{"A1", "T1", "s", `"1"`}, {"A2", "T1", "n", "1.50"}, {"A3", "B1", "t", "true"},
				{"A4", "R1", "f", "false"}, {"A5", "R1", "quoted", `"\"\\é\n"`},
			},
		},
		{
			Name: "Where do passages lie whose ids were taken?",
			Query: `SELECT project, sourcedb, sourceid, item, id, "begin", "end" FROM blocks
WHERE sourcedb = 'P' ORDER BY item`,
			want: [][]string{{"myproject", "P", "1", "2", "T1.2", "8", "12"}},
		},
		{
			Name:  "What became of a job's items?",
			Query: `SELECT outcome, count(*) FROM store_items WHERE job_id = 2 GROUP BY outcome ORDER BY outcome`,
			want:  [][]string{{"1", "1"}, {"2", "1"}},
		},
	}
}

// arrayLines turns a JSON array into one element per line.
func arrayLines(t testing.TB, array string) string {
	t.Helper()
	var elements []json.RawMessage
	if err := json.Unmarshal([]byte(array), &elements); err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for _, e := range elements {
		compact, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(compact)
		lines.WriteByte('\n')
	}
	return lines.String()
}
