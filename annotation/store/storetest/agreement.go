package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

// agreement finds out whether a store takes what the validation accepts.
type agreement struct {
	store  store.Store
	writer store.Writer
	jobs   int64
	known  map[annotation.Key]bool
}

func newAgreement(ctx context.Context, s store.Store) (*agreement, error) {
	w, err := s.Writer(ctx, cluster)
	return &agreement{s, w, 0, make(map[annotation.Key]bool)}, err
}

// check stores an item, if it is valid, in a project of its own, and compares what is there then with the item.
func (a *agreement) check(ctx context.Context, raw []byte) error {
	item, findings := annotation.Options{DefaultSourceDB: "PubMed"}.Parse(raw)
	if item == nil {
		return nil
	}
	a.jobs++
	if a.known[item.Key] {
		item.Key.SourceID = "again-" + strconv.FormatInt(a.jobs, 10) // it may have another text
	}
	a.known[item.Key] = true
	j := job(a.jobs, fmt.Sprintf("agreement-%d", a.jobs))
	results, err := putBy(ctx, a.writer, newLease(), j, []store.Entry{{Number: 1, Item: item, Warnings: findings}})
	if err != nil {
		return err
	}
	if outcome := results[0].Outcome; outcome != annotation.Stored && outcome != annotation.StoredWarnings || len(results[0].Findings) != len(findings) {
		return fmt.Errorf("the item is valid, with findings %v, and storing gives %v", findings, results[0])
	}
	items, err := exportOf(ctx, a.store, j.Project)
	if err != nil {
		return err
	}
	for i := range item.Denotations {
		item.Denotations[i].Unnamed = false
	}
	for i := range item.Blocks {
		item.Blocks[i].Unnamed = false
	}
	for i := range item.Relations {
		item.Relations[i].Unnamed = false
	}
	for i := range item.Attributes {
		item.Attributes[i].Unnamed = false
	}
	if diff := diffItems([]*annotation.Item{item}, items); diff != "" {
		return fmt.Errorf("validated and stored (-want +got):\n%s", diff)
	}
	return nil
}

// odd are pieces of JSON that one database or another has been known to mind.
var odd = []string{
	`"\u0001"`, `"\u007f\u0085"`, `"\ufeff"`, `"\ufffe\uffff"`, `"\ufffd"`, `"\u2028\u2029"`, `"\ud83d\ude00"`, `"\udbff\udfff"`, `"שָׁלוֹם"`, `"a\u0308\u0323"`,
	`"\\"`, `"'"`, `"\"; DROP TABLE documents; --"`, `"%s"`, `"$1"`, `"{}"`, `"[1,2]"`, `"null"`, `" "`, `"\t\n\r"`, `""`, `"\u0000"`, `"\ud800"`, "\"\xff\"",
	`0`, `-0`, `1.50`, `1E400`, `-1e-400`, `9223372036854775808`, `123456789012345678901234567890.123456789`, `4.0`, `true`, `false`, `null`, `{}`, `[]`, `[[]]`,
	longString(254), longString(1000), longString(1024), longString(3000), longString(20_000),
	`"denotations"`, `"span"`, `"begin"`, `"end"`, `"id"`, `"obj"`, `"subj"`, `"T1"`, `"T1-1"`, `"R1"`,
}

// longString is one that does not compress well, since the rows of an index are compressed before they are too long.
func longString(bytes int) string {
	random := rand.New(rand.NewPCG(1, uint64(bytes)))
	var b strings.Builder
	for range bytes {
		b.WriteByte(byte('a' + random.IntN(26)))
	}
	return strconv.Quote(b.String())
}

// Seeds are items to begin with.
func seeds() []string {
	return []string{
		`{"sourcedb":"PubMed","sourceid":"1","text":"Aspirin helps.","denotations":[{"id":"T1","span":{"begin":0,"end":7},"obj":"Chemical"},{"id":"T2","span":[{"begin":0,"end":1},{"begin":8,"end":13}],"obj":"X"}],` +
			`"blocks":[{"id":"B1","begin":"0","end":14.0,"obj":"Sentence"}],"relations":[{"id":"R1","subj":"T1","pred":"does","obj":"T2"}],` +
			`"attributes":[{"id":"A1","subj":"R1","pred":"p","obj":1.50},{"subj":"T1","pred":"q"},{"subj":"B1","pred":"r","obj":"x"}]}`,
		`{"sourceid":5,"text":"é𝄞 \n","denotations":[{"begin":0,"end":2,"obj":"A"}]}`,
		`{"sourcedb":" pmc ","sourceid":"PMC12","text":"a","blocks":[{"span":[{"begin":0,"end":1}],"obj":"A"}]}`,
	}
}

// scalars returns where the strings, keys, numbers and literals of a JSON text are.
func scalars(raw string) (ranges [][2]int) {
	for i := 0; i < len(raw); {
		begin := i
		switch c := raw[i]; {
		case strings.IndexByte(" ,:{}[]", c) >= 0:
			i++
			continue
		case c == '"':
			for i++; i < len(raw) && raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
			i = min(i+1, len(raw))
		default:
			for i < len(raw) && strings.IndexByte(" ,:{}[]\"", raw[i]) < 0 {
				i++
			}
		}
		ranges = append(ranges, [2]int{begin, i})
	}
	return ranges
}

// testAgreement puts odd values everywhere into valid items and stores those that are valid still.
func testAgreement(f *fixture) {
	a, err := newAgreement(f.Context(), f.store)
	if err != nil {
		f.Fatal(err)
	}
	runs := 0
	rapid.Check(f.T, func(t *rapid.T) {
		if runs++; underRace && runs > racedInterleavings {
			return
		}
		raw := string(drawWritten(t, annotation.Key{SourceDB: "PubMed", SourceID: "1"}))
		if rapid.Bool().Draw(t, "seed") {
			raw = rapid.SampledFrom(seeds()).Draw(t, "raw")
		}
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			tokens := scalars(raw)
			at := rapid.SampledFrom(tokens).Draw(t, "at")
			raw = raw[:at[0]] + rapid.SampledFrom(odd).Draw(t, "odd") + raw[at[1]:]
		}
		if err := a.check(f.Context(), []byte(raw)); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
	})
	if a.jobs == 0 {
		f.Error("no item is valid")
	}
}

// Fuzz feeds a store with whatever the validation accepts.
func Fuzz(f *testing.F, s store.Store) {
	f.Helper()
	for _, seed := range seeds() {
		f.Add([]byte(seed))
	}
	seed := seeds()[0]
	for i, at := range scalars(seed) {
		f.Add([]byte(seed[:at[0]] + odd[i%len(odd)] + seed[at[1]:]))
	}
	a, err := newAgreement(f.Context(), s)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := a.check(t.Context(), raw); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	})
}
