package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallyman-dev/tallyman/worker"
)

// answer is what a command says of an item, all of it optional.
type answer struct {
	Error   *string        `json:"error"`   // it is rejected, for this reason
	Warning *string        `json:"warning"` // it is stored, but there is this to say
	Skip    *string        `json:"skip"`    // it is not stored, since nobody wants that
	Code    string         `json:"code"`    // of the finding that error or warning becomes
	Path    string         `json:"path"`    // of the finding: the place in the item
	Result  jsontext.Value `json:"result"`  // kept with the item
}

var answerKeys = []string{"error", "warning", "skip", "code", "path", "result"}

// The codes of findings that have none of their own.
const (
	codeError   = "EXEC_ERROR"
	codeWarning = "EXEC_WARNING"
	codeSkipped = "EXEC_SKIPPED"
)

// parseAnswer reads an answer. Everything is refused that is not known, since a word that is misspelled would otherwise
// store what should be rejected.
func parseAnswer(text []byte) (worker.Result, error) {
	var a answer
	if !bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{")) {
		return worker.Result{}, errors.New("it is not a JSON object")
	}
	var keys map[string]jsontext.Value
	if err := jsonv2.Unmarshal(text, &keys); err != nil {
		return worker.Result{}, err
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !slices.Contains(answerKeys, key) {
			return worker.Result{}, fmt.Errorf("%q is no key of an answer: choose among %s", key, strings.Join(answerKeys, ", "))
		}
	}
	if err := jsonv2.Unmarshal(text, &a); err != nil {
		return worker.Result{}, err
	}
	said := func(severity worker.Severity, code string, message string) worker.Finding {
		if severity == worker.SeverityError || a.Error == nil {
			if a.Code != "" {
				code = a.Code
			}
		}
		return worker.Finding{Severity: severity, Code: code, Path: a.Path, Message: message}
	}
	r := worker.Result{Outcome: worker.Stored, Value: json.RawMessage(a.Result)}
	if a.Error != nil && a.Skip != nil {
		return r, errors.New("it has both an error and a reason to skip the item")
	}
	if a.Error != nil {
		r.Outcome = worker.Rejected
		r.Findings = append(r.Findings, said(worker.SeverityError, codeError, *a.Error))
	}
	if a.Skip != nil {
		r.Outcome = worker.Skipped
		if *a.Skip != "" {
			r.Findings = append(r.Findings, said(worker.SeverityWarning, codeSkipped, *a.Skip))
		}
	}
	if a.Warning != nil {
		if r.Outcome == worker.Stored {
			r.Outcome = worker.StoredWithWarnings
		}
		r.Findings = append(r.Findings, said(worker.SeverityWarning, codeWarning, *a.Warning))
	}
	return r, nil
}

func isObject(text []byte) bool {
	text = bytes.TrimSpace(text)
	return bytes.HasPrefix(text, []byte("{")) && json.Valid(text)
}

// maxQuote is how much of an answer that is none is shown, in bytes.
const maxQuote = 100

func quote(text []byte) string {
	text = bytes.TrimSpace(text)
	if len(text) <= maxQuote {
		return fmt.Sprintf("%q", text)
	}
	cut := text[:maxQuote]
	for len(cut) > 0 && !utf8.Valid(cut) && len(cut) > maxQuote-utf8.UTFMax {
		cut = cut[:len(cut)-1]
	}
	return fmt.Sprintf("%q…", cut)
}
