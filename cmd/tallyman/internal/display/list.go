package display

import (
	"fmt"
	"io"
	"iter"
	"strings"
	"text/tabwriter"

	"google.golang.org/protobuf/proto"
)

// tableRows is how many rows are aligned with each other; a longer table is written in parts as it comes.
const tableRows = 1000

// column of a list.
type column[T any] struct {
	name  string
	value func(T) string
}

// List is a kind of list: which columns its tables have.
type List[T proto.Message] struct {
	columns []column[T]
}

// Write writes entries in a format and returns how many. With most above 0 it stops after so many, and more reports
// whether there are others. An error of the entries ends it.
func (l List[T]) Write(w io.Writer, format Format, entries iter.Seq2[T, error], most int) (n int, more bool, err error) {
	out := l.writer(w, format)
	for entry, err := range entries {
		if err == nil && most > 0 && n == most {
			more = true
			break
		}
		if err == nil {
			err = out.entry(entry)
		}
		if err != nil {
			return n, false, joinFlush(err, out.end())
		}
		n++
	}
	return n, more, out.end()
}

// joinFlush keeps what was written before an error visible; the first error is the one that counts.
func joinFlush(err, flush error) error {
	if flush != nil {
		return fmt.Errorf("%w (and then: %w)", err, flush)
	}
	return err
}

type listWriter[T any] interface {
	entry(entry T) error
	end() error
}

func (l List[T]) writer(w io.Writer, format Format) listWriter[T] {
	switch format {
	case JSON:
		return jsonList[T]{w}
	case TSV:
		return &tsvList[T]{w: w, columns: l.columns}
	default:
		return &tableList[T]{w: w, columns: l.columns}
	}
}

type jsonList[T proto.Message] struct{ w io.Writer }

func (j jsonList[T]) entry(entry T) error { return WriteJSON(j.w, entry) }
func (j jsonList[T]) end() error          { return nil }

type tsvList[T any] struct {
	w       io.Writer
	columns []column[T]
	begun   bool
}

func (t *tsvList[T]) header() error {
	if t.begun {
		return nil
	}
	t.begun = true
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = strings.ReplaceAll(c.name, " ", "_")
	}
	return write(t.w, []byte(strings.Join(names, "\t")+"\n"))
}

func (t *tsvList[T]) entry(entry T) error {
	if err := t.header(); err != nil {
		return err
	}
	values := make([]string, len(t.columns))
	for i, c := range t.columns {
		values[i] = Clean(c.value(entry)) // no tab and no line end is left
	}
	return write(t.w, []byte(strings.Join(values, "\t")+"\n"))
}

func (t *tsvList[T]) end() error { return t.header() }

type tableList[T any] struct {
	w       io.Writer
	columns []column[T]
	tab     *tabwriter.Writer
	rows    int
}

func (t *tableList[T]) entry(entry T) error {
	if t.tab == nil {
		t.tab = newTab(t.w)
		for i, c := range t.columns {
			t.cell(i, strings.ToUpper(c.name))
		}
	}
	for i, c := range t.columns {
		t.cell(i, Clean(c.value(entry)))
	}
	t.rows++
	if t.rows%tableRows == 0 {
		return flushTab(t.tab)
	}
	return nil
}

func (t *tableList[T]) cell(i int, text string) {
	end := "\t"
	if i == len(t.columns)-1 {
		end = "\n"
	}
	fmt.Fprint(t.tab, text, end)
}

func (t *tableList[T]) end() error {
	if t.tab == nil {
		return nil
	}
	return flushTab(t.tab)
}

func newTab(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

func flushTab(tab *tabwriter.Writer) error {
	if err := tab.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
