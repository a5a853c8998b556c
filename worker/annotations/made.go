package annotations

import (
	"bytes"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallyman-dev/tallyman/worker"
)

// made is what a handler made of one item, or of all that are left together.
type made struct {
	result worker.Result
	object []byte // annotations that are to be stored; nil for none
	rest   bool
}

// size is what counts of it for the bound on what waits.
func (m *made) size() int { return len(m.object) + len(m.result.Value) + madeBytes }

const (
	madeBytes    = 256     // of what waits, beside objects and values
	waitingBytes = 8 << 20 // of results may wait for the store
)

// stored returns what became of the item, by what the store says of the annotations.
func (m *made) stored(r worker.Result) worker.Result {
	if m.object == nil {
		return m.result
	}
	findings := append([]worker.Finding(nil), m.result.Findings...)
	for _, f := range r.Findings {
		if f.Path != "" {
			f.Path = "." + f.Path
		}
		f.Path = resultKey + f.Path
		findings = append(findings, f)
	}
	if r.Outcome == worker.Stored {
		r.Outcome = m.result.Outcome
	}
	return worker.Result{Outcome: r.Outcome, Findings: findings}
}

// resultKey is the one key of a result that is annotations.
const resultKey = "annotations"

// annotationsOf returns what is to be stored of a result, if it is annotations.
func annotationsOf(r worker.Result) (value jsontext.Value, ok bool) {
	if r.Outcome != worker.Stored && r.Outcome != worker.StoredWithWarnings {
		return nil, false
	}
	if !bytes.Contains(r.Value, []byte(`"`+resultKey+`"`)) {
		return nil, false
	}
	var members map[string]jsontext.Value
	if err := jsonv2.Unmarshal(r.Value, &members); err != nil || len(members) != 1 {
		return nil, false // one that is no JSON is refused as any other
	}
	value, ok = members[resultKey]
	return value, ok
}

// elements returns those of an array.
func elements(value jsontext.Value) (objects []jsontext.Value, ok bool) {
	return objects, value[0] == '[' && jsonv2.Unmarshal(value, &objects) == nil
}

// inherited are the keys that an object which names no document has of its item.
var inherited = []string{"sourcedb", "sourceid", "text"}

// complete returns annotations that were made of an item as an item of its own.
func complete(object, item []byte) []byte {
	var own map[string]jsontext.Value
	if jsonv2.Unmarshal(object, &own) != nil {
		return object // what is wrong with it is said when it is read
	}
	for _, key := range inherited {
		if string(own[key]) == "null" {
			delete(own, key)
		}
	}
	if own == nil || own["sourcedb"] != nil || own["sourceid"] != nil {
		return object
	}
	var of map[string]jsontext.Value
	if jsonv2.Unmarshal(item, &of) != nil {
		return object
	}
	for _, key := range inherited {
		if value, ok := of[key]; ok && own[key] == nil {
			own[key] = value
		}
	}
	whole, err := jsonv2.Marshal(own, jsonv2.Deterministic(true))
	if err != nil {
		return object
	}
	return whole
}
