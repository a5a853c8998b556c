package annotations

import (
	"context"
	"fmt"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/worker/annotations/source"
)

// Source gives the texts of documents of one sourcedb.
type Source interface {
	// Lookup returns what the source says of ids, or of the first ones, at least one: see [source.Source].
	Lookup(ctx context.Context, ids []string) ([]source.Document, error)
	// Batch returns how many ids are worth asking for at once.
	Batch() int
}

var _ Source = (*source.Source)(nil)

// Sources are where documents come from that the store does not know, by sourcedb.
type Sources map[string]Source

// store stores entries, and before that asks for their documents where these have a source and are unknown. It does both
// for a few documents at a time, so that no more of their texts are in memory than sources answer at once.
func (a *attempt) store(ctx context.Context, entries []store.Entry, durable func([]store.Result)) error {
	unknown, err := a.unknown(ctx, entries)
	if err != nil {
		return err
	}
	for len(entries) > 0 {
		n, err := a.give(ctx, entries[:a.take(entries, unknown)], unknown)
		if err != nil {
			return err
		}
		stored := entries[:n]
		err = a.writer.Store(ctx, a.lease, a.job, stored, func(results []store.Result) {
			for i, r := range results {
				if r.Outcome == annotation.Stored || r.Outcome == annotation.StoredWarnings {
					delete(unknown, stored[i].Item.Key)
				}
				stored[i].Given = nil
			}
			stored = stored[len(results):]
			durable(results)
		})
		if err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// unknown returns the documents of entries that are to be asked for.
func (a *attempt) unknown(ctx context.Context, entries []store.Entry) (map[annotation.Key]bool, error) {
	sourced := make(map[annotation.Key]bool)
	var keys []annotation.Key
	for _, e := range entries {
		if key := e.Item.Key; a.sources[key.SourceDB] != nil && !sourced[key] {
			sourced[key] = true
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	list, err := a.writer.Unknown(ctx, keys)
	if err != nil {
		return nil, err
	}
	unknown := make(map[annotation.Key]bool, len(list))
	for _, key := range list {
		unknown[key] = true
	}
	return unknown, nil
}

// take returns how many entries have no more unknown documents than each source answers at once.
func (a *attempt) take(entries []store.Entry, unknown map[annotation.Key]bool) int {
	seen := make(map[annotation.Key]bool)
	asked := make(map[string]int)
	for n, e := range entries {
		key := e.Item.Key
		if !unknown[key] || seen[key] {
			continue
		}
		if asked[key.SourceDB] == a.sources[key.SourceDB].Batch() {
			return n
		}
		seen[key] = true
		asked[key.SourceDB]++
	}
	return len(entries)
}

// give asks for the unknown documents of entries, and notes with these what their sources say. It returns for how many of
// the entries that is known, at least one.
func (a *attempt) give(ctx context.Context, entries []store.Entry, unknown map[annotation.Key]bool) (int, error) {
	ids := make(map[string][]string)
	givens := make(map[annotation.Key]*store.Given)
	var sourceDBs []string
	for _, e := range entries {
		key := e.Item.Key
		if _, twice := givens[key]; twice || !unknown[key] {
			continue
		}
		givens[key] = nil
		if ids[key.SourceDB] == nil {
			sourceDBs = append(sourceDBs, key.SourceDB)
		}
		ids[key.SourceDB] = append(ids[key.SourceDB], key.SourceID)
	}
	for _, db := range sourceDBs {
		docs, err := a.sources[db].Lookup(ctx, ids[db])
		if err != nil {
			return 0, fmt.Errorf("get documents: %w", err)
		}
		for i, doc := range docs {
			givens[annotation.Key{SourceDB: db, SourceID: ids[db][i]}] = given(doc)
		}
	}
	for i := range entries {
		key := entries[i].Item.Key
		if unknown[key] && givens[key] == nil {
			return i, nil
		}
		entries[i].Given = givens[key]
	}
	return len(entries), nil
}

func given(doc source.Document) *store.Given {
	if doc.Text != "" {
		return &store.Given{Text: doc.Text, Length: doc.Length}
	}
	code := store.DocumentMissing
	if doc.Refused {
		code = store.SourceRefused
	}
	return &store.Given{Missing: annotation.Finding{
		Code: code, Severity: annotation.Error, Path: "sourceid",
		Message: doc.Reason + " Check the id, or send the item again when the source has it.",
	}}
}
