package store

import (
	"strings"
	"unicode/utf8"

	"github.com/tallyman-dev/tallyman/server/job"
)

// Bounds, in bytes, of texts from outside as they are kept. What is longer is cut at a character.
const (
	MaxMessage  = 8 << 10 // of findings, ended attempts and stopped jobs
	MaxPlace    = 4 << 10 // file names and JSON paths
	MaxDocument = 1 << 10 // a document's key; it must fit an index entry
	MaxName     = 1 << 8  // codes, kinds, hosts, versions, worker and request ids
	MaxStderr   = 8 << 10 // of a crash
)

// CleanText makes text from outside fit for a statement: at most most bytes of valid UTF-8 without U+0000, which a
// database may refuse. Whatever is wrong becomes U+FFFD; what is too long is cut between characters.
func CleanText(s string, most int) string {
	// The bound comes first, so that a huge text costs no more than a long one. A replacement is longer than what it
	// replaces, hence a second cut.
	s = cut(s, most)
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	s = strings.ReplaceAll(s, "\x00", string(utf8.RuneError))
	return cut(s, most)
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	end := most
	for end > 0 && end > most-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// CleanCrash returns what is known of a crash with its texts made fit for a statement; the zero value for nil. Of what was
// written to standard error the end is kept.
func CleanCrash(c *job.Crash) job.Crash {
	if c == nil {
		return job.Crash{}
	}
	clean := *c
	clean.Signal, clean.Fingerprint = CleanText(c.Signal, MaxName), CleanText(c.Fingerprint, MaxName)
	clean.Stderr = CleanText(c.Stderr[max(len(c.Stderr)-MaxStderr, 0):], MaxStderr)
	return clean
}

// Clean returns f with its texts made fit for a statement.
func (f Finding) Clean() Finding {
	f.Code = CleanText(f.Code, MaxName)
	f.File = CleanText(f.File, MaxPlace)
	f.Document = CleanText(f.Document, MaxDocument)
	f.Path = CleanText(f.Path, MaxPlace)
	f.Message = CleanText(f.Message, MaxMessage)
	return f
}

// Clean returns n with its texts made fit for a statement. Map entries that become equal are merged.
func (n NewJob) Clean() NewJob {
	n.UploadID = CleanText(n.UploadID, MaxName)
	n.Project = CleanText(n.Project, MaxName)
	n.Kind = CleanText(n.Kind, MaxName)
	n.Mode = CleanText(n.Mode, MaxName)
	n.FileName = CleanText(n.FileName, MaxPlace)
	n.Parameters = cleanMap(n.Parameters)
	n.Labels = cleanMap(n.Labels)
	n.Policy.DefaultSourceDB = CleanText(n.Policy.DefaultSourceDB, MaxName)
	return n
}

// Clean returns s with its texts made fit for a statement.
func (s Session) Clean() Session {
	s.WorkerID = CleanText(s.WorkerID, MaxName)
	s.Owner = CleanText(s.Owner, MaxPlace)
	s.Host = CleanText(s.Host, MaxName)
	s.Version = CleanText(s.Version, MaxName)
	kinds := make([]string, len(s.Kinds))
	for i, k := range s.Kinds {
		kinds[i] = CleanText(k, MaxName)
	}
	s.Kinds = kinds
	return s
}

// CleanDocuments returns keys made fit for a statement, in their order, each once.
func CleanDocuments(keys []string) []string {
	clean := make([]string, 0, len(keys))
	seen := make(map[string]bool, len(keys))
	for _, k := range keys {
		if k = CleanText(k, MaxDocument); !seen[k] {
			seen[k] = true
			clean = append(clean, k)
		}
	}
	return clean
}

func cleanMap(m map[string]string) map[string]string {
	if m == nil {
		return nil
	}
	clean := make(map[string]string, len(m))
	for k, v := range m {
		clean[CleanText(k, MaxName)] = CleanText(v, MaxMessage)
	}
	return clean
}
