package annotation

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxKeyBytes is the longest sourcedb and the longest sourceid, each in bytes of its canonical spelling.
const MaxKeyBytes = 255

// The databases whose names are matched in any case, in the spelling that they are stored in.
const (
	pubMed       = "PubMed"
	pmc          = "PMC"
	firstAuthors = "FirstAuthors"
)

// NewKey returns the key of a document in canonical spelling: surrounding white space is trimmed; PubMed, PMC and
// FirstAuthors are recognized in any case; PMC123 under PMC and PMID:123 or PubMed:123 under PubMed, in any case too,
// lose what stands before the digits. Other ids are left as they are. NewKey of a canonical key returns it unchanged.
// The error says which part is blank, longer than [MaxKeyBytes] or has control characters.
func NewKey(sourceDB, sourceID string) (Key, error) {
	db, problem := canonicalSourceDB(sourceDB)
	if problem != "" {
		return Key{}, fmt.Errorf("sourcedb %s %s", quote(sourceDB), problem)
	}
	id, problem := canonicalSourceID(db, sourceID)
	if problem != "" {
		return Key{}, fmt.Errorf("sourceid %s %s", quote(sourceID), problem)
	}
	return Key{SourceDB: db, SourceID: id}, nil
}

// ParseKey reads a key as people write it and as [Key.String] does, "PMC:4402192": what stands before the first colon is
// the sourcedb. The result is canonical.
func ParseKey(s string) (Key, error) {
	db, id, ok := strings.Cut(s, ":")
	if !ok {
		return Key{}, fmt.Errorf("document key %s has no colon: write it as SOURCEDB:SOURCEID, like PMC:4402192", quote(s))
	}
	key, err := NewKey(db, id)
	if err != nil {
		return Key{}, fmt.Errorf("document key %s: %w", quote(s), err)
	}
	return key, nil
}

// canonicalSourceDB returns the canonical spelling or, as the predicate of a sentence, why there is none.
func canonicalSourceDB(s string) (canonical, problem string) {
	s = strings.TrimSpace(s)
	for _, known := range []string{pubMed, pmc, firstAuthors} {
		if strings.EqualFold(s, known) {
			return known, ""
		}
	}
	return s, keyProblem(s)
}

// canonicalSourceID is the same for an id under a canonical sourceDB.
func canonicalSourceID(sourceDB, s string) (canonical, problem string) {
	s = strings.TrimSpace(s)
	switch sourceDB {
	case pubMed:
		s = cutIDPrefix(s, "PMID:", "PubMed:")
	case pmc:
		s = cutIDPrefix(s, "PMC")
	}
	return s, keyProblem(s)
}

func cutIDPrefix(s string, prefixes ...string) string {
	for _, prefix := range prefixes {
		if len(s) <= len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
			continue
		}
		if rest := s[len(prefix):]; strings.Trim(rest, "0123456789") == "" {
			return rest
		}
	}
	return s
}

func keyProblem(s string) string {
	switch {
	case s == "":
		return "is blank"
	case len(s) > MaxKeyBytes:
		return fmt.Sprintf("is longer than %d bytes", MaxKeyBytes)
	case strings.ContainsFunc(s, unicode.IsControl):
		return "has control characters"
	case !validUTF8(s):
		return "is not valid UTF-8"
	}
	return ""
}

// key reads the identity from the values of sourcedb and sourceid, nil where absent. It is complete or zero.
func (o Options) key(sourceDB, sourceID jsontext.Value, fs *findings) Key {
	var key Key
	db, okDB := o.keyPart(sourceDB, o.DefaultSourceDB, sourceDBRules, fs)
	if okDB {
		var problem string
		if key.SourceDB, problem = canonicalSourceDB(db); problem != "" {
			fs.add(InvalidSourceDB, atPath("sourcedb"), "The sourcedb %s %s. Give the name of the document's database, like PubMed.",
				quote(db), problem)
			okDB = false
		}
	}
	id, okID := o.keyPart(sourceID, o.DefaultSourceID, sourceIDRules, fs)
	if okID {
		var problem string
		if key.SourceID, problem = canonicalSourceID(key.SourceDB, id); problem != "" {
			fs.add(InvalidSourceID, atPath("sourceid"), "The sourceid %s %s. Give the document's id in its database.",
				quote(id), problem)
			okID = false
		}
	}
	if !okDB || !okID {
		return Key{}
	}
	return key
}

// keyRules are what the checks of sourcedb and sourceid do not share.
type keyRules struct {
	name             string
	missing, invalid Code
	advice           string
}

var (
	sourceDBRules = keyRules{"sourcedb", MissingSourceDB, InvalidSourceDB,
		"Name the document's database, like PubMed, or set a default sourcedb for the upload"}
	sourceIDRules = keyRules{"sourceid", MissingSourceID, InvalidSourceID, "Give the document's id in its database"}
)

// keyPart returns the text of one half of the key, not yet canonical and never blank.
func (o Options) keyPart(v jsontext.Value, absent string, rules keyRules, fs *findings) (string, bool) {
	at := atPath(rules.name)
	if isAbsent(v) {
		if absent == "" {
			fs.add(rules.missing, at, "The item has no %s. %s.", rules.name, rules.advice)
		}
		return absent, absent != ""
	}
	switch v.Kind() {
	case jsontext.KindString:
		s := mustUnquote(v)
		if strings.TrimSpace(s) == "" {
			fs.add(rules.missing, at, "The %s is blank. %s.", rules.name, rules.advice)
			return "", false
		}
		return s, true
	case jsontext.KindNumber:
		if isDigits(v) {
			return string(v), true
		}
		s, ok := parseDecimal(string(v)).spell(MaxKeyBytes)
		if !ok {
			fs.add(rules.invalid, at, "The %s is %s, which takes more than %d bytes to write out. %s.",
				rules.name, describe(v), MaxKeyBytes, rules.advice)
		}
		return s, ok
	default:
		fs.add(rules.invalid, at, "The %s is %s; a string or number is needed. %s.", rules.name, describe(v), rules.advice)
		return "", false
	}
}
