package ingest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/payload"
)

func TestMain(m *testing.M) {
	// What the compressor makes when it is first used must not belong to the bubble of a test.
	if _, err := new(payload.Encoder).Finish(); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// identifyLetters takes "{a5" as an item of document a with weight 5, "{-5" as one without document, and anything else
// as bad.
func identifyLetters(it payload.Item) Identity {
	var c byte
	var weight int
	if n, err := fmt.Sscanf(string(it.Data), "{%c%d", &c, &weight); n != 2 || err != nil {
		return Identity{Findings: []Finding{
			{Code: "ODD", Severity: SeverityWarning, Message: "odd"},
			{Code: "BAD", Severity: SeverityError, Path: "x", Message: "bad"},
		}}
	}
	if c == '-' {
		return Identity{Weight: weight}
	}
	return Identity{Document: string(c), Weight: weight, Findings: []Finding{{Severity: SeverityWarning}}}
}

func ingest(t testing.TB, data string, config Config) (*memory, Summary) {
	t.Helper()
	sink := &memory{}
	sum, err := Run(t.Context(), io.NopCloser(strings.NewReader(data)), config, sink)
	if err != nil {
		t.Fatal(err)
	}
	return sink, sum
}

func TestRun(t *testing.T) {
	t.Parallel()
	in := "{a5\nbad one\n{a5\n\n{b1\n{-3\n{b1\nbad two\n"
	sink, sum := ingest(t, "{a5\n"+in, Config{
		Reader:   ReaderConfig{File: "f"},
		Cut:      CutConfig{Weight: 10},
		Identify: identifyLetters,
	})
	var frames [][]payload.Item
	for _, b := range sink.batches() {
		items, err := payload.Decode(b.Frame, 0)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, items)
	}
	of := func(it payload.Item, document string) payload.Item { it.Document = document; return it }
	if diff := cmp.Diff([][]payload.Item{
		{of(item(1, 1, 0, "{a5"), "a"), of(item(2, 2, 4, "{a5"), "a"), of(item(4, 4, 16, "{a5"), "a")},
		{of(item(5, 6, 21, "{b1"), "b"), item(6, 7, 25, "{-3"), of(item(7, 8, 29, "{b1"), "b")},
	}, frames); diff != "" {
		t.Errorf("items of batches (-want +got):\n%s", diff)
	}
	last := sink.groups[len(sink.groups)-1]
	if diff := cmp.Diff(&Group{
		Batches: []Batch{
			{FirstItem: 1, LastItem: 4, Items: 3, Weight: 15, Bytes: 9, Documents: []string{"a"}},
			{FirstItem: 5, LastItem: 7, Items: 3, Weight: 5, Bytes: 9, Documents: []string{"b"}},
		},
		Rejected: []Rejected{
			{Item: payload.Item{Number: 3, File: "f", Line: 3, Offset: 8, Length: 7}, Findings: []Finding{
				{Code: "ODD", Severity: SeverityWarning, File: "f", Line: 3, Item: 3, Offset: 8, Message: "odd"},
				{Code: "BAD", Severity: SeverityError, File: "f", Line: 3, Item: 3, Offset: 8, Path: "x", Message: "bad"},
			}},
			{Item: payload.Item{Number: 8, File: "f", Line: 9, Offset: 33, Length: 7}, Findings: []Finding{
				{Code: "ODD", Severity: SeverityWarning, File: "f", Line: 9, Item: 8, Offset: 33, Message: "odd"},
				{Code: "BAD", Severity: SeverityError, File: "f", Line: 9, Item: 8, Offset: 33, Path: "x", Message: "bad"},
			}},
		},
		Position: Position{Offset: 41, Line: 9, Item: 8},
		Items:    8,
		Last:     true,
	}, last, cmpopts.IgnoreFields(Batch{}, "Frame"), cmpopts.IgnoreFields(Group{}, "RejectedFrame"),
		cmpopts.IgnoreFields(Position{}, "Hash")); diff != "" {
		t.Errorf("group (-want +got):\n%s", diff)
	}
	rejected, err := payload.Decode(last.RejectedFrame, 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]payload.Item{item(3, 3, 8, "bad one"), item(8, 9, 33, "bad two")}, rejected); diff != "" {
		t.Errorf("rejected items (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Summary{Items: 8, Rejected: 2, Batches: 2, Bytes: 18, Received: 41}, sum); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}

// TestRunFileIsBad expects what can be read to be committed, and the rest to be a finding.
func TestRunFileIsBad(t *testing.T) {
	t.Parallel()
	var objects strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&objects, "{a%d\n", i*7919%10007)
	}
	compressed := gzipOf(t, objects.String())
	tests := map[string]struct {
		data string
		code string
		some bool
	}{
		"no JSON":        {"%PDF-1.7", CodeNotJSON, false},
		"truncated gzip": {compressed[:len(compressed)/2], CodeTruncated, true},
	}
	for name, test := range tests {
		sink, sum := ingest(t, test.data, Config{Reader: ReaderConfig{File: "f"}, Identify: identifyLetters})
		last := sink.groups[len(sink.groups)-1]
		if sum.Stopped == nil || sum.Stopped.Code != test.code || !last.Last || len(last.Findings) != 1 ||
			last.Findings[0].Code != test.code || last.Findings[0].File != "f" || last.Findings[0].Line < 1 {
			t.Errorf("%s: got %+v and last group %+v", name, sum, last)
		}
		if (sum.Items > 0) != test.some || sum.Rejected > 0 {
			t.Errorf("%s: got %+v", name, sum)
		}
	}
}

func TestRunNothing(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "\n", strings.Repeat(" \r\n", 100000)} {
		sink, sum := ingest(t, data, Config{})
		if len(sink.groups) != 1 || !sink.groups[0].Last || sum.Items != 0 || sum.Stopped != nil ||
			sink.groups[0].Position.Offset != int64(len(data)) {
			t.Errorf("%d bytes: got %+v in %d groups", len(data), sum, len(sink.groups))
		}
	}
}

func TestRunItemTooLarge(t *testing.T) {
	t.Parallel()
	sink, sum := ingest(t, "{}\n{"+strings.Repeat("x", 200)+"\n{}\n", Config{Reader: ReaderConfig{File: "f", MaxItem: 100}})
	if sum.Items != 3 || sum.Rejected != 1 || sum.Batches != 1 {
		t.Fatalf("got %+v", sum)
	}
	f := sink.groups[0].Rejected[0].Findings[0]
	if f.Code != CodeItemTooLarge || f.Line != 2 || f.Offset != 3 || !strings.Contains(f.Message, SettingMaxItem) {
		t.Errorf("got %+v", f)
	}
	kept, err := payload.Decode(sink.groups[0].RejectedFrame, 0)
	if err != nil || len(kept) != 1 || len(kept[0].Data) != 100 || kept[0].Length != 201 {
		t.Errorf("kept %+v, %v", kept, err)
	}
}

// resumedForms make an upload of values.
var resumedForms = []func(t testing.TB, values []string) string{
	func(_ testing.TB, values []string) string { return strings.Join(values, "\n") },
	func(t testing.TB, values []string) string {
		t.Helper()
		return gzipOf(t, strings.Join(values, "\n"))
	},
	func(_ testing.TB, values []string) string { return "[" + strings.Join(values, ",\n") + "]\n" },
	func(t testing.TB, values []string) string {
		t.Helper()
		return zstdOf(t, "[\n\n"+strings.ReplaceAll(strings.Join(values, "\n,"), "a", "\na\n")+"\n]")
	},
	func(t testing.TB, values []string) string {
		t.Helper()
		return gzipOf(t, tarOf(t, spread(values)...))
	},
	func(t testing.TB, values []string) string {
		t.Helper()
		return tarOf(t, member{name: "link", tar: ofType(tar.TypeSymlink)},
			member{name: "z", data: zipOf(t, spread(values)...)}, member{name: "y", data: "%PDF-1.7"})
	},
}

// spread puts three values into a file, as lines and as an array in turns.
func spread(values []string) []member {
	var members []member
	for v := range slices.Chunk(values, 3) {
		m := member{name: strconv.Itoa(len(members)), data: strings.Join(v, "\n")}
		if len(members)%2 == 0 {
			m.data = "[" + strings.Join(v, ",") + "]"
		}
		members = append(members, m)
	}
	return members
}

// TestRunResumes commits groups, and goes on from each as if the connection had broken there: the batches and the
// rejected items are always the same.
func TestRunResumes(tt *testing.T) {
	tt.Parallel()
	rapid.Check(tt, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.SampledFrom([]string{"{a5}", "{a1}", "{b1}", "{-4}", "bad", "{bad}", ""}), 1, 60).Draw(t, "values")
		data := rapid.SampledFrom(resumedForms).Draw(t, "form")(tt, append([]string{"{a5}"}, values...))
		config := Config{
			Reader:     ReaderConfig{File: "f"},
			Cut:        CutConfig{Weight: 10, Items: 4, Bytes: 15},
			Identify:   identifyLetters,
			FlushBytes: rapid.SampledFrom([]int64{1, 20, 1 << 20}).Draw(t, "flush bytes"),
		}
		whole := func(from Position, data string) *memory {
			config := config
			config.Reader.Resume = from
			sink := &memory{}
			if _, err := Run(context.Background(), io.NopCloser(strings.NewReader(data)), config, sink); err != nil {
				t.Fatal(err)
			}
			return sink
		}
		want := whole(Position{}, data)
		checkNumbers(t, want, 0)
		for i, g := range want.groups {
			from := data
			if g.Position.Encoding == Plain {
				from = data[g.Position.Offset:]
			} else if g.Last {
				break
			}
			rest := whole(g.Position, from)
			checkNumbers(t, rest, g.Position.Item)
			got := &memory{groups: append(append([]*Group(nil), want.groups[:i+1]...), rest.groups...)}
			if diff := cmp.Diff(want.batches(), got.batches()); diff != "" {
				t.Fatalf("batches after a resume behind group %d (-want +got):\n%s", i, diff)
			}
			if diff := cmp.Diff(want.groups[len(want.groups)-1].Position, rest.groups[len(rest.groups)-1].Position); diff != "" {
				t.Fatalf("last position after a resume behind group %d (-want +got):\n%s", i, diff)
			}
		}
	})
}

// checkNumbers expects every item from the one after the given on exactly once, in groups that end where they say.
func checkNumbers(t *rapid.T, m *memory, from int64) {
	for _, g := range m.groups {
		var numbers []int64
		for _, b := range g.Batches {
			items, err := payload.Decode(b.Frame, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, it := range items {
				numbers = append(numbers, it.Number)
			}
		}
		for _, r := range g.Rejected {
			numbers = append(numbers, r.Item.Number)
		}
		seen := map[int64]bool{}
		for _, n := range numbers {
			if n <= from || n > g.Position.Item || seen[n] {
				t.Fatalf("item %d in a group from %d to %d, twice: %t", n, from, g.Position.Item, seen[n])
			}
			seen[n] = true
		}
		if int64(len(numbers)) != g.Position.Item-from || int64(len(numbers)) != g.Items {
			t.Fatalf("a group from item %d to %d holds %d, and says %d", from, g.Position.Item, len(numbers), g.Items)
		}
		from = g.Position.Item
	}
}

// TestRunFlushesWhileSourceBlocks expects a closed batch to be committed although nothing more arrives.
func TestRunFlushesWhileSourceBlocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src, send := io.Pipe()
		groups := make(chan *Group, 10)
		done := make(chan error)
		go func() {
			_, err := Run(t.Context(), src, Config{Cut: CutConfig{Items: 2}, FlushInterval: 50 * time.Millisecond},
				commitFunc(func(_ context.Context, g *Group) error { groups <- g; return nil }))
			done <- err
		}()
		start := time.Now()
		if _, err := io.WriteString(send, "{}\n{}\n{}\n"); err != nil {
			t.Fatal(err)
		}
		g := <-groups
		if len(g.Batches) != 1 || g.Last || g.Position.Item != 2 {
			t.Errorf("got %+v", g)
		}
		if waited := time.Since(start); waited != 50*time.Millisecond {
			t.Errorf("committed after %v, want the flush interval", waited)
		}
		if err := send.Close(); err != nil {
			t.Fatal(err)
		}
		if g := <-groups; len(g.Batches) != 1 || !g.Last || g.Position.Item != 3 {
			t.Errorf("got %+v", g)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

type commitFunc func(context.Context, *Group) error

func (f commitFunc) Commit(ctx context.Context, g *Group) error { return f(ctx, g) }

func TestRunEndsWhileSourceBlocks(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	gone := errors.New("client gone")
	for name, test := range map[string]struct {
		commit func(cancel context.CancelCauseFunc) error
		want   error
	}{
		"sink fails":        {func(context.CancelCauseFunc) error { return full }, full},
		"context cancelled": {func(cancel context.CancelCauseFunc) error { cancel(gone); return nil }, gone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			src, send := io.Pipe()
			sent := make(chan error)
			go func() {
				_, err := io.WriteString(send, "{}\n{}\n")
				sent <- err
			}()
			_, err := Run(ctx, src, Config{Cut: CutConfig{Items: 1}, FlushInterval: time.Millisecond},
				commitFunc(func(context.Context, *Group) error { return test.commit(cancel) }))
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if err := <-sent; err != nil {
				t.Errorf("send: %v", err)
			}
			if _, err := send.Write([]byte("x")); err == nil {
				t.Error("the source has not been closed")
			}
		})
	}
}

func TestRunSourceFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken connection")
	src := io.NopCloser(io.MultiReader(strings.NewReader("{}\n{}\n{}\n{}\n{}\n"), iotest.ErrReader(broken)))
	sink := &memory{}
	sum, err := Run(t.Context(), src, Config{Cut: CutConfig{Items: 2}}, sink)
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the source's error", err)
	}
	if sum.Items != 4 || len(sink.batches()) != 2 || sink.groups[len(sink.groups)-1].Last {
		t.Errorf("got %+v in %d batches, want the two closed ones and no end", sum, len(sink.batches()))
	}
}

func TestConfigValidates(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]Config{
		"item limit":  {Reader: ReaderConfig{MaxItem: -1}},
		"huge items":  {Reader: ReaderConfig{MaxItem: 1 << 40}},
		"window":      {Reader: ReaderConfig{MaxWindow: 5}},
		"resume":      {Reader: ReaderConfig{Resume: Position{Offset: -1}}},
		"weight":      {Cut: CutConfig{Weight: -1}},
		"huge batch":  {Cut: CutConfig{Bytes: 1 << 40}},
		"many items":  {Cut: CutConfig{Items: 1 << 30}},
		"interval":    {FlushInterval: -1},
		"flush bytes": {FlushBytes: 1 << 40},
	} {
		if _, err := Run(t.Context(), io.NopCloser(&bytes.Buffer{}), config, &memory{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
