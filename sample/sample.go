// Package sample generates annotation collections for trials, tests and benchmarks: JSON Lines of any size, always the
// same for the same configuration, with invented texts, denotations that lie on words, relations, attributes, blocks,
// documents in several passages, characters of every length, and as many bad items as wanted.
package sample

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
)

// Config says what to generate. Its zero value is an empty collection.
type Config struct {
	// Documents is the number of good documents. Each has one item, but for every tenth, which has several passages.
	Documents int
	// Bad is the number of items that validation must reject, besides the good ones and spread evenly among them. The
	// kinds take turns; no bad item shares its document with a good one.
	Bad int
	// Seed chooses the collection. The same configuration gives the same bytes on every machine.
	Seed uint64
	// Annotations is the mean number of annotations of an item, 20 if 0; none if negative. Texts grow with it.
	Annotations int
	// Passages is the number of passages of every tenth document, 3 if 0.
	Passages int
}

// Validate returns an error that names the first field that makes no sense.
func (c Config) Validate() error {
	switch {
	case c.Documents < 0:
		return fmt.Errorf("documents: %d is negative", c.Documents)
	case c.Bad < 0:
		return fmt.Errorf("bad: %d is negative", c.Bad)
	case c.Annotations > 100_000:
		return fmt.Errorf("annotations: %d is more than 100,000", c.Annotations)
	case c.Passages < 0 || c.Passages > 1000:
		return fmt.Errorf("passages: %d is not between 0 and 1,000", c.Passages)
	}
	return nil
}

// Summary counts what was generated.
type Summary struct {
	Documents   int64 // good documents
	Items       int64 // lines: good items and bad ones
	Bad         int64 // bad items among them
	Annotations int64 // of the good items
	Bytes       int64
}

const (
	defaultAnnotations = 20
	defaultPassages    = 3
	passageEvery       = 10      // every tenth document comes in passages
	wordsPerAnnotation = 6       // so that annotations are as dense as in real collections
	minWords           = 40      // of a text
	flushSize          = 1 << 18 // bytes a write
)

// Generate writes the collection that c describes to w, in writes of about 256 KiB and constant memory, and counts it.
// With an error the summary is of what was made until then; errors of w are wrapped.
func Generate(w io.Writer, c Config) (Summary, error) {
	if err := c.Validate(); err != nil {
		return Summary{}, fmt.Errorf("generate collection: %w", err)
	}
	if c.Annotations == 0 {
		c.Annotations = defaultAnnotations
	}
	if c.Passages == 0 {
		c.Passages = defaultPassages
	}
	source := rand.NewPCG(0, 0)
	g := &generator{config: c, source: source, random: rand.New(source), out: make([]byte, 0, 2*flushSize)}
	for i := range c.Documents {
		if err := g.badUntil(w, i); err != nil {
			return g.summary, err
		}
		if err := g.document(w, i); err != nil {
			return g.summary, err
		}
	}
	if err := g.badUntil(w, c.Documents+1); err != nil {
		return g.summary, err
	}
	return g.summary, g.flush(w)
}

// generator writes items behind each other into out, and out to the writer now and then.
type generator struct {
	config  Config
	source  *rand.PCG
	random  *rand.Rand
	summary Summary
	out     []byte

	// Parts of the item being written, kept for their memory.
	text, denotations, relations, attributes []byte
}

// badUntil writes the bad items that come before document i.
func (g *generator) badUntil(w io.Writer, i int) error {
	for g.summary.Bad < int64(g.config.Bad) {
		// Bad item k of n stands where k+1 of n+1 equal parts of the documents end.
		if place := (g.summary.Bad + 1) * int64(g.config.Documents) / (int64(g.config.Bad) + 1); place >= int64(i) {
			return nil
		}
		g.out = appendBad(g.out, int(g.summary.Bad))
		g.summary.Bad++
		g.summary.Items++
		if err := g.flushFull(w); err != nil {
			return err
		}
	}
	return nil
}

// document writes the items of document i. It depends on nothing but i, the seed and the two sizes.
func (g *generator) document(w io.Writer, i int) error {
	g.source.Seed(g.config.Seed, uint64(i))
	sourceDB, sourceID := "PubMed", 30_000_000+i
	passages := 1
	if i%passageEvery == passageEvery-1 {
		sourceDB, sourceID = "PMC", 9_000_000+i
		passages = g.config.Passages
	}
	g.summary.Documents++
	ids := counters{}
	for range passages {
		g.item(sourceDB, sourceID, &ids)
		g.summary.Items++
		if err := g.flushFull(w); err != nil {
			return err
		}
	}
	return nil
}

// counters are the last ids given in a document: they run on over its passages, so that no two are the same.
type counters struct{ denotation, block, relation, attribute int }

func (c counters) sum() int { return c.denotation + c.block + c.relation + c.attribute }

// item writes one good item.
func (g *generator) item(sourceDB string, sourceID int, ids *counters) {
	before := ids.sum()
	g.text, g.denotations = g.text[:0], g.denotations[:0]
	g.relations, g.attributes = g.relations[:0], g.attributes[:0]
	title := g.write(ids)

	out := append(g.out, `{"sourcedb":"`...)
	out = append(out, sourceDB...)
	out = append(out, `","sourceid":"`...)
	out = strconv.AppendInt(out, int64(sourceID), 10)
	out = append(out, `","text":"`...)
	out = append(out, g.text...)
	out = append(out, `","denotations":[`...)
	out = append(out, g.denotations...)
	out = append(out, ']')
	if len(g.denotations) > 0 && g.random.IntN(4) == 0 {
		ids.block++
		out = append(out, `,"blocks":[`...)
		out = appendSpan(out, 'B', ids.block, 0, title, "Title")
		out = append(out, ']')
	}
	if len(g.relations) > 0 {
		out = append(out, `,"relations":[`...)
		out = append(out, g.relations...)
		out = append(out, ']')
	}
	if len(g.attributes) > 0 {
		out = append(out, `,"attributes":[`...)
		out = append(out, g.attributes...)
		out = append(out, ']')
	}
	g.out = append(out, "}\n"...)
	g.summary.Annotations += int64(ids.sum() - before)
}

// write makes the text and its annotations, and returns the length of the first sentence.
func (g *generator) write(ids *counters) (title int) {
	mean := max(0, g.config.Annotations)
	count := max(minWords, wordsPerAnnotation*mean)
	count += g.random.IntN(count/2+1) - count/4
	first := ids.denotation
	position, sentence := 0, 0
	for i := range count {
		if i > 0 {
			switch {
			case sentence > 8 && g.random.IntN(8) == 0:
				if title == 0 {
					title = position + 1
				}
				g.text = append(g.text, '.')
				sentence = 0
				position++
				if g.random.IntN(6) == 0 {
					g.text = append(g.text, `\n`...) // one character, escaped
				} else {
					g.text = append(g.text, ' ')
				}
			default:
				g.text = append(g.text, ' ')
			}
			position++
		}
		sentence++
		// Three in five annotations are denotations; the rest hangs on them.
		entity := g.random.IntN(5*max(minWords, wordsPerAnnotation*mean)) < 3*mean
		list := plainWords
		if entity {
			list = entityWords
		}
		word := list[g.random.IntN(len(list))]
		g.text = append(g.text, word.json...)
		if entity {
			g.annotate(ids, first, position, word)
		}
		position += word.length
	}
	if title == 0 {
		title = position
	}
	return title
}

// annotate adds a denotation on the word at position, and sometimes a relation to an earlier one of the item, or an
// attribute. The item's own denotations are those after number first.
func (g *generator) annotate(ids *counters, first, position int, w word) {
	ids.denotation++
	g.denotations = appendSpan(g.denotations, 'T', ids.denotation, position, position+w.length, w.label)
	if earlier := ids.denotation - 1 - first; earlier > 0 && g.random.IntN(3) == 0 {
		ids.relation++
		g.relations = appendID(g.relations, 'R', ids.relation)
		g.relations = append(g.relations, `,"subj":"T`...)
		g.relations = strconv.AppendInt(g.relations, int64(ids.denotation), 10)
		g.relations = append(g.relations, `","pred":"`...)
		g.relations = append(g.relations, relationWords[g.random.IntN(len(relationWords))]...)
		g.relations = append(g.relations, `","obj":"T`...)
		g.relations = strconv.AppendInt(g.relations, int64(first+1+g.random.IntN(earlier)), 10)
		g.relations = append(g.relations, `"}`...)
	}
	if g.random.IntN(4) == 0 {
		ids.attribute++
		g.attributes = appendID(g.attributes, 'A', ids.attribute)
		g.attributes = append(g.attributes, `,"subj":"T`...)
		g.attributes = strconv.AppendInt(g.attributes, int64(ids.denotation), 10)
		g.attributes = append(g.attributes, `","pred":`...)
		g.attributes = append(g.attributes, attributeWords[g.random.IntN(len(attributeWords))]...)
		g.attributes = append(g.attributes, '}')
	}
}

// appendID begins an entry of a collection.
func appendID(b []byte, letter byte, n int) []byte {
	if len(b) > 0 && b[len(b)-1] == '}' {
		b = append(b, ',')
	}
	b = append(b, `{"id":"`...)
	b = append(b, letter)
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, '"')
}

func appendSpan(b []byte, letter byte, n, begin, end int, label string) []byte {
	b = appendID(b, letter, n)
	b = append(b, `,"span":{"begin":`...)
	b = strconv.AppendInt(b, int64(begin), 10)
	b = append(b, `,"end":`...)
	b = strconv.AppendInt(b, int64(end), 10)
	b = append(b, `},"obj":"`...)
	b = append(b, label...)
	return append(b, `"}`...)
}

func (g *generator) flushFull(w io.Writer) error {
	if len(g.out) < flushSize {
		return nil
	}
	return g.flush(w)
}

func (g *generator) flush(w io.Writer) error {
	n, err := w.Write(g.out)
	g.summary.Bytes += int64(n)
	if err == nil && n < len(g.out) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("write collection: %w", err)
	}
	g.out = g.out[:0]
	return nil
}
