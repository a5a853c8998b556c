package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

// modelDocument is what jobs, each whole and one after the other, leave of one document: the rules, as simply as they can
// be put.
type modelDocument struct {
	text     string
	projects map[string]*model
}

// model is what they leave in one project.
type model struct {
	spans []*modelSpan
	ties  []*modelTie // relations
	notes []*modelTie // attributes
}

type modelSpan struct {
	job, item  int64
	block      bool
	ordinal    int
	begin, end int
	obj        string
	given      string
	unnamed    bool
}

// modelTie is a relation or an attribute.
type modelTie struct {
	job, item int64
	given     string
	unnamed   bool
	subj, obj any // *modelSpan or *modelTie; obj of relations only
	pred      string
	value     annotation.Value
}

// do does a job: its items on the document in order of their numbers.
func (d *modelDocument) do(job store.Job, entries []store.Entry) {
	if len(entries) == 0 {
		return
	}
	m := d.projects[job.Project]
	if m == nil || job.Mode == store.ModeReplace {
		m = &model{}
		d.projects[job.Project] = m
	}
	base, cursor, ends := d.text, 0, map[string]int{}
	previous, begin := "", 0
	for _, e := range entries {
		text := e.Item.Text
		if text != previous {
			if place := modelPlace(base, text, cursor, ends[text]); place >= 0 {
				begin, cursor, ends[text] = place, place+len(text), place+len(text)
			} else {
				if d.text != "" {
					d.text += "\n"
				}
				begin = len(d.text)
				d.text += text
			}
		}
		previous = text
		m.add(job, e.Number, e.Item, utf8.RuneCountInString(d.text[:begin]))
	}
}

// modelPlace returns where base holds text: behind the item before and the last one with this text, else behind the
// latter, else the last.
func modelPlace(base, text string, cursor, end int) int {
	var all []int
	for i := range base {
		if strings.HasPrefix(base[i:], text) {
			all = append(all, i)
		}
	}
	for _, from := range []int{max(cursor, end), end} {
		if i := slices.IndexFunc(all, func(at int) bool { return at >= from }); i >= 0 {
			return all[i]
		}
	}
	if len(all) == 0 {
		return -1
	}
	return all[len(all)-1]
}

// add adds an item that begins at a code point of the document's text.
func (m *model) add(job store.Job, number int64, item *annotation.Item, begin int) {
	merge := job.Mode == store.ModeMerge
	spans, ties := map[string]*modelSpan{}, map[string]*modelTie{}
	addSpans := func(list []annotation.Span, block bool) {
		for i, s := range list {
			n := &modelSpan{job.ID, number, block, i, begin + s.Begin, begin + s.End, s.Obj, s.ID, s.Unnamed}
			same := slices.IndexFunc(m.spans, func(o *modelSpan) bool {
				return o.block == block && o.begin == n.begin && o.end == n.end && o.obj == n.obj
			})
			if merge && same >= 0 {
				spans[s.ID] = m.spans[same]
				continue
			}
			m.spans = append(m.spans, n)
			spans[s.ID] = n
		}
	}
	addSpans(item.Denotations, false)
	addSpans(item.Blocks, true)
	for _, r := range item.Relations {
		n := &modelTie{job: job.ID, item: number, given: r.ID, unnamed: r.Unnamed, subj: spans[r.Subj], obj: spans[r.Obj], pred: r.Pred}
		if same := m.same(m.ties, n); merge && same != nil {
			ties[r.ID] = same
			continue
		}
		m.ties = append(m.ties, n)
		ties[r.ID] = n
	}
	for _, a := range item.Attributes {
		n := &modelTie{job: job.ID, item: number, given: a.ID, unnamed: a.Unnamed, pred: a.Pred, value: a.Value}
		if s, ok := spans[a.Subj]; ok {
			n.subj = s
		} else {
			n.subj = ties[a.Subj]
		}
		if merge && m.same(m.notes, n) != nil {
			continue
		}
		m.notes = append(m.notes, n)
	}
}

// same returns the first tie that says what n says of what says the same.
func (m *model) same(list []*modelTie, n *modelTie) *modelTie {
	for _, o := range list {
		if m.equal(o.subj, n.subj) && m.equal(o.obj, n.obj) && o.pred == n.pred && o.value == n.value {
			return o
		}
	}
	return nil
}

func (m *model) equal(a, b any) bool {
	switch x := a.(type) {
	case *modelSpan:
		y, ok := b.(*modelSpan)
		return ok && x.block == y.block && x.begin == y.begin && x.end == y.end && x.obj == y.obj
	case *modelTie:
		y, ok := b.(*modelTie)
		return ok && m.equal(x.subj, y.subj) && m.equal(x.obj, y.obj) && x.pred == y.pred && x.value == y.value
	default:
		return a == nil && b == nil
	}
}

// check compares a document with the model, ids as far as the rules say: they are unique, whoever gives an id first has
// it, and the others have one that is made of theirs.
func (m *model) check(got *annotation.Item, text string) error {
	if got.Text != text || got.Length != utf8.RuneCountInString(text) {
		return fmt.Errorf("text %q, want %q", got.Text, text)
	}
	block := func(s *modelSpan) int { // an export has denotations first
		if s.block {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(m.spans, func(a, b *modelSpan) int { return cmp.Compare(block(a), block(b)) })
	all := slices.Concat(got.Denotations, got.Blocks)
	if len(all) != len(m.spans) || len(got.Relations) != len(m.ties) || len(got.Attributes) != len(m.notes) {
		return fmt.Errorf("%d spans, %d relations, %d attributes, want %d, %d, %d",
			len(all), len(got.Relations), len(got.Attributes), len(m.spans), len(m.ties), len(m.notes))
	}
	idOf := map[any]string{nil: ""}
	var names []modelName
	for i, s := range m.spans {
		g := all[i]
		if g.Begin != s.begin || g.End != s.end || g.Obj != s.obj || (i < len(got.Denotations)) == s.block {
			return fmt.Errorf("span %d is %+v, want %+v", i, g, *s)
		}
		idOf[s] = g.ID
		names = append(names, modelName{s.job, s.item, s.block, s.ordinal, s.given, g.ID, s.unnamed})
	}
	if err := checkNames(names); err != nil {
		return err
	}
	taken, own := make(map[string]bool, len(names)), make(map[string]string)
	for _, n := range names {
		taken[n.id], own[annotation.DeriveID(n.id, ".r1")] = true, n.id
	}
	names = nil
	for i, r := range m.ties {
		g := got.Relations[i]
		if g.Subj != idOf[r.subj] || g.Obj != idOf[r.obj] || g.Pred != r.pred {
			return fmt.Errorf("relation %d is %+v, want %s %s %s", i, g, idOf[r.subj], r.pred, idOf[r.obj])
		}
		idOf[r] = g.ID
		id := g.ID
		if slices.ContainsFunc(m.notes, func(a *modelTie) bool { return a.subj == any(r) }) {
			if taken[id] {
				return fmt.Errorf("attributes of relation %d are about a span that is called %s, too", i, id)
			}
			if before, changed := own[id]; changed {
				id = before // it has the other one only in exports
			}
		}
		names = append(names, modelName{r.job, r.item, false, i, r.given, id, r.unnamed})
	}
	if err := checkNames(names); err != nil {
		return err
	}
	names = nil
	for i, a := range m.notes {
		g := got.Attributes[i]
		if g.Subj != idOf[a.subj] || g.Pred != a.pred || g.Value != a.value {
			return fmt.Errorf("attribute %d is %+v, want %s %s %v", i, g, idOf[a.subj], a.pred, a.value)
		}
		names = append(names, modelName{a.job, a.item, false, i, a.given, g.ID, a.unnamed})
	}
	return checkNames(names)
}

// modelName is an annotation's id in its item and in its document.
type modelName struct {
	job, item int64
	block     bool
	ordinal   int
	given, id string
	unnamed   bool
}

// checkNames checks the ids of one class.
func checkNames(names []modelName) error {
	slices.SortStableFunc(names, func(a, b modelName) int { return cmp.Or(cmp.Compare(a.job, b.job), cmp.Compare(a.item, b.item)) })
	taken, first := map[string]bool{}, map[string]bool{}
	for _, n := range names {
		if taken[n.id] {
			return fmt.Errorf("the id %s is there twice", n.id)
		}
		taken[n.id] = true
		if !n.unnamed && !first[n.given] && n.id != n.given {
			return fmt.Errorf("the id of item %d of job %d, which gave %s first, is %s", n.item, n.job, n.given, n.id)
		}
		first[n.given] = first[n.given] || !n.unnamed
		if n.id != n.given && !strings.HasPrefix(n.id, annotation.DeriveID(n.given, fmt.Sprintf(".%d", n.item))) {
			return fmt.Errorf("the id of item %d of job %d, which gave %s, is %s", n.item, n.job, n.given, n.id)
		}
	}
	return nil
}
