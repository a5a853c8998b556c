package annotation_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/annotation"
)

func TestNewKey(t *testing.T) {
	t.Parallel()
	tests := []struct{ db, id, wantDB, wantID string }{
		{"PubMed", "8701013", "PubMed", "8701013"},
		{" pubmed\n", "\t8701013 ", "PubMed", "8701013"},
		{"PUBMED", "PMID:8701013", "PubMed", "8701013"},
		{"PubMed", "pubmed:8701013", "PubMed", "8701013"},
		{"PubMed", "PMC8701013", "PubMed", "PMC8701013"},
		{"PubMed", "PMID:", "PubMed", "PMID:"},
		{"PubMed", "PMID:x1", "PubMed", "PMID:x1"},
		{"PubMed", "PMID:PMID:1", "PubMed", "PMID:PMID:1"},
		{"pmc", "PMC7646410", "PMC", "7646410"},
		{"PMC", "pmc7646410", "PMC", "7646410"},
		{"PMC", "PMC", "PMC", "PMC"},
		{"PMC", "PMC-1", "PMC", "PMC-1"},
		{"PMC", "PMID:1", "PMC", "PMID:1"},
		{"firstauthors", "PMC1", "FirstAuthors", "PMC1"},
		{"DOI", "10.1000/PMC123", "DOI", "10.1000/PMC123"},
		{"my db", "a b", "my db", "a b"},
		{"Pubmed2", "PMID:1", "Pubmed2", "PMID:1"},
	}
	for _, test := range tests {
		key, err := annotation.NewKey(test.db, test.id)
		if want := (annotation.Key{SourceDB: test.wantDB, SourceID: test.wantID}); err != nil || key != want {
			t.Errorf("NewKey(%q, %q) = %v, %v, want %v", test.db, test.id, key, err, want)
		}
	}
	for _, test := range []struct{ db, id, want string }{
		{" ", "1", "sourcedb \" \" is blank"},
		{"PMC", "", "sourceid \"\" is blank"},
		{"PMC", "a\x7fb", "has control characters"},
		{"PMC", strings.Repeat("x", 256), "is longer than 255 bytes"},
		{"PMC", "a\xff", "is not valid UTF-8"},
	} {
		if _, err := annotation.NewKey(test.db, test.id); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("NewKey(%q, %q) gives error %v, want one with %q", test.db, test.id, err, test.want)
		}
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"PMC:4402192": "PMC:4402192", "pmc:PMC4402192": "PMC:4402192", "PubMed:PMID:1": "PubMed:1", "DOI:10.1/a:b": "DOI:10.1/a:b",
	} {
		if key, err := annotation.ParseKey(in); err != nil || key.String() != want {
			t.Errorf("ParseKey(%q) = %v, %v, want %s", in, key, err, want)
		}
	}
	for _, in := range []string{"", "PMC", ":1", "PMC:"} {
		if key, err := annotation.ParseKey(in); err == nil {
			t.Errorf("ParseKey(%q) = %v, want an error", in, key)
		}
	}
}

func TestCanonicalKeyIsStable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		db := rapid.OneOf(rapid.SampledFrom([]string{"pubmed", " PMC ", "firstAUTHORS"}), rapid.String()).Draw(t, "sourcedb")
		id := rapid.SampledFrom([]string{"", "PMC", "pmid:", "PubMed: ", "PMID:PMC"}).Draw(t, "prefix") +
			rapid.OneOf(rapid.StringMatching(`[0-9]{1,9}`), rapid.String()).Draw(t, "sourceid")
		key, err := annotation.NewKey(db, id)
		if err != nil {
			return
		}
		if again, err := annotation.NewKey(key.SourceDB, key.SourceID); err != nil || again != key {
			t.Errorf("NewKey of the parts of %v = %v, %v", key, again, err)
		}
	})
}

// TestNumbersAsIdentity has numbers taken as their decimal strings, the forms that spreadsheets make of ids included.
func TestNumbersAsIdentity(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]string{
		"8701013": "8701013", "8701013.0": "8701013", "8.701013e6": "8701013", "1e3": "1000", "1.50": "1.5", "-0": "0", "0.0e7": "0",
		"123456789012345678901234567890": "123456789012345678901234567890", "-12": "-12", "25e-3": "0.025",
	} {
		summary, findings := annotation.Options{}.Scan([]byte(`{"sourcedb":5,"sourceid":` + number + `}`))
		if len(findings) > 0 || summary.Key != (annotation.Key{SourceDB: "5", SourceID: want}) {
			t.Errorf("sourceid %s gives %+v and %v, want %s", number, summary, findings, want)
		}
	}
}

func TestOptionsValidate(t *testing.T) {
	t.Parallel()
	for _, valid := range []annotation.Options{{}, {DefaultSourceDB: "pubmed", MaxItemBytes: 1, MaxDepth: 10_000, MaxFindings: 1}} {
		if err := valid.Validate(); err != nil {
			t.Errorf("%+v: %v", valid, err)
		}
	}
	err := annotation.Options{DefaultSourceDB: "a\x00", MaxItemBytes: -1, MaxDepth: 10_001, MaxFindings: -1}.Validate()
	for _, want := range []string{"default sourcedb", "max item bytes", "max depth", "max findings"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestSourceIDFromName(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"8701013.json": "8701013", "dir/8701013.json": "8701013", "a.tgz!dir/8701013.JSON.gz": "8701013", "a.zip!b.tar!12.jsonl.zst": "12",
		"10.1000.5.json": "10.1000.5", "8701013-1.json": "8701013-1", "8701013": "8701013", "8701013.txt": "8701013.txt", ".json": ".json",
		"a!b.tgz": "b", "a/": "", " 7 .json": "7",
	} {
		if got := (annotation.Options{SourceIDFromName: true}).For(file).DefaultSourceID; got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
		if got := (annotation.Options{}).For(file).DefaultSourceID; got != "" {
			t.Errorf("%s: got %q without having asked for it", file, got)
		}
	}
	for raw, want := range map[string]string{
		`{"sourcedb":"PMC","text":"a"}`:                 "PMC:7",
		`{"sourcedb":"PMC","sourceid":null,"text":"a"}`: "PMC:7",
		`{"sourcedb":"PMC","sourceid":"8","text":"a"}`:  "PMC:8",
		`{"sourcedb":"PMC","sourceid":" ","text":"a"}`:  "",
	} {
		options := annotation.Options{SourceIDFromName: true}.For("a.tgz!PMC7.json")
		summary, scanned := options.Scan([]byte(raw))
		item, parsed := options.Parse([]byte(raw))
		got := ""
		if item != nil {
			got = item.Key.String()
		}
		if scan := summary.Key.String(); got != want || !summary.Key.IsZero() && scan != want || annotation.HasError(scanned) != annotation.HasError(parsed) {
			t.Errorf("%s: got %q from Parse and %q from Scan, want %q", raw, got, scan, want)
		}
	}
}
