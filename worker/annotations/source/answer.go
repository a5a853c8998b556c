package source

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallyman-dev/tallyman/annotation"
)

// answer is what a source says to a list of ids.
type answer struct {
	docs     map[string]Document // by id, of those asked for
	messages []string
}

// The bounds of what is kept of a source's words, so that they fit into a finding.
const (
	maxMessages = 100
	maxWords    = 300 // bytes of one
	maxSaid     = 3   // messages about one document
)

const byteOrderMark = "\ufeff"

var errNoDocs = errors.New("it has no docs")

// decode reads an answer. It keeps what was asked for, by canonical ids of the sourcedb.
func decode(r io.Reader, sourceDB string, asked map[string]bool) (answer, error) {
	a := answer{docs: make(map[string]Document)}
	buffered := bufio.NewReader(r)
	if start, _ := buffered.Peek(len(byteOrderMark)); string(start) == byteOrderMark {
		_, _ = buffered.Discard(len(start)) // they are there
	}
	d := jsontext.NewDecoder(buffered)
	if token, err := d.ReadToken(); err != nil {
		return answer{}, err
	} else if token.Kind() != jsontext.KindBeginObject {
		return answer{}, errors.New("it is not an object")
	}
	found := false
	for d.PeekKind() != jsontext.KindEndObject {
		name, err := d.ReadToken()
		if err != nil {
			return answer{}, err
		}
		switch name.String() {
		case "docs":
			found = true
			err = a.readDocs(d, sourceDB, asked)
		case "messages":
			err = a.readMessages(d)
		default:
			err = d.SkipValue()
		}
		if err != nil {
			return answer{}, err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return answer{}, err
	}
	switch _, err := d.ReadToken(); {
	case err == nil:
		return answer{}, errors.New("something follows its object")
	case !errors.Is(err, io.EOF):
		return answer{}, err
	case !found:
		return answer{}, errNoDocs
	}
	return a, nil
}

// elements calls each for every element of an array; null is an empty one.
func elements(d *jsontext.Decoder, name string, each func() error) error {
	token, err := d.ReadToken()
	switch {
	case err != nil:
		return err
	case token.Kind() == jsontext.KindNull:
		return nil
	case token.Kind() != jsontext.KindBeginArray:
		return fmt.Errorf("its %s are not an array", name)
	}
	for d.PeekKind() != jsontext.KindEndArray {
		if err := each(); err != nil {
			return err
		}
	}
	_, err = d.ReadToken()
	return err
}

func (a *answer) readDocs(d *jsontext.Decoder, sourceDB string, asked map[string]bool) error {
	return elements(d, "docs", func() error {
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		if value.Kind() != jsontext.KindBeginObject {
			return errors.New("one of its docs is not an object")
		}
		var doc struct {
			SourceDB jsontext.Value `json:"sourcedb"`
			SourceID jsontext.Value `json:"sourceid"`
			Text     jsontext.Value `json:"text"`
		}
		if err := json.Unmarshal(value, &doc); err != nil {
			return err
		}
		if id, ok := idOf(doc.SourceDB, doc.SourceID, sourceDB); ok && asked[id] {
			a.add(id, documentOf(doc.Text))
		}
		return nil
	})
}

// idOf returns the canonical id of a document if it is one of the sourcedb.
func idOf(db, id jsontext.Value, sourceDB string) (string, bool) {
	name := sourceDB
	switch db.Kind() {
	case jsontext.KindInvalid, jsontext.KindNull:
	case jsontext.KindString:
		name = unquote(db)
	default:
		return "", false
	}
	var text string
	switch id.Kind() {
	case jsontext.KindString:
		text = unquote(id)
	case jsontext.KindNumber:
		text = string(id)
	default:
		return "", false
	}
	key, err := annotation.NewKey(name, text)
	return key.SourceID, err == nil && key.SourceDB == sourceDB
}

// unquote returns what a string that was read by a decoder says.
func unquote(v jsontext.Value) string {
	text, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return "" // a decoder lets none pass
	}
	return string(text)
}

// documentOf checks a text. That it is UTF-8 the decoder has seen to, and that it is not too long the limit of the answer.
func documentOf(value jsontext.Value) Document {
	if value.Kind() != jsontext.KindString {
		return refused("without a text")
	}
	text := unquote(value)
	switch {
	case strings.TrimSpace(text) == "":
		return refused("with a blank text")
	case strings.ContainsRune(text, 0):
		return refused("with a text that holds the character U+0000, which databases cannot store")
	}
	return Document{Text: text, Length: utf8.RuneCountInString(text)}
}

// refused is a document that the source does not give. The predicate becomes a sentence where the id is known.
func refused(predicate string) Document { return Document{Refused: true, Reason: predicate} }

// add adds a document that was asked for. A second one that says something else leaves open which is right.
func (a *answer) add(id string, doc Document) {
	if before, twice := a.docs[id]; twice && before != doc {
		doc = refused("with different texts at once")
	}
	a.docs[id] = doc
}

// readMessages keeps the words of messages, in whatever form they come.
func (a *answer) readMessages(d *jsontext.Decoder) error {
	keep := func() error {
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		text := string(value)
		if value.Kind() == jsontext.KindString {
			text = unquote(value)
		}
		if text = words(text); text != "" && len(a.messages) < maxMessages {
			a.messages = append(a.messages, text)
		}
		return nil
	}
	switch d.PeekKind() {
	case jsontext.KindBeginArray, jsontext.KindNull:
		return elements(d, "messages", keep)
	default:
		return keep()
	}
}

// about returns what the messages say of an id: those that name it, or the first of all.
func (a *answer) about(id string) []string {
	var said []string
	for _, m := range a.messages {
		if names(m, id) && len(said) < maxSaid {
			said = append(said, m)
		}
	}
	if said == nil {
		said = a.messages[:min(len(a.messages), 1)]
	}
	return said
}

// names reports whether a text has an id in it, not as a part of another.
func names(text, id string) bool {
	part := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	for at := 0; ; {
		i := strings.Index(text[at:], id)
		if i < 0 {
			return false
		}
		from, to := at+i, at+i+len(id)
		before, _ := utf8.DecodeLastRuneInString(text[:from])
		after, _ := utf8.DecodeRuneInString(text[to:])
		if !part(before) && !part(after) {
			return true
		}
		at = to
	}
}

// words makes text from outside fit to be shown: one line, bounded, valid.
func words(text string) string {
	if len(text) > 4*maxWords { // spaces may go
		text = text[:4*maxWords]
	}
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, ""), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsGraphic(r)
	}), " ")
	if len(text) <= maxWords {
		return text
	}
	cut := maxWords
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
