package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/tallyman-dev/tallyman/annotation/store"
	stores "github.com/tallyman-dev/tallyman/annotation/store/open"
	"github.com/tallyman-dev/tallyman/bench/postgres"
	"github.com/tallyman-dev/tallyman/bench/sqlite"
	"github.com/tallyman-dev/tallyman/client"
)

// storeSlots is how many batches the worker of an annotation store works on at a time.
const storeSlots = 8

// annotations uploads a generated collection and takes the time until all of it is validated and stored, by one worker,
// with coordinator and annotation store on the same engine. Beside it stands the time of loading the same rows into the
// same tables by the quickest means that the engine has, in one transaction.
func annotations(ctx context.Context, c Config, engine Engine) (r Result, err error) {
	r.Settings = map[string]string{"documents": strconv.Itoa(c.Documents), "slots": strconv.Itoa(storeSlots)}
	s, err := open(ctx, c, engine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	stored, err := s.store(ctx, c, "stored")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stored.drop(context.WithoutCancel(ctx))) }()
	path := filepath.Join(s.dir, "collection.jsonl")
	if _, err := generate(path, c.Documents); err != nil {
		return r, err
	}
	if err := s.hire(ctx, 1, "work", "--store", stored.name, "--slots", strconv.Itoa(storeSlots)); err != nil {
		return r, err
	}
	before, err := s.usage(ctx)
	if err != nil {
		return r, err
	}
	begun := time.Now()
	annotated, err := s.collection(ctx, path)
	if err != nil {
		return r, err
	}
	storing := time.Since(begun)
	after, err := s.usage(ctx)
	if err != nil {
		return r, err
	}
	loaded, err := s.store(ctx, c, "loaded")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, loaded.drop(context.WithoutCancel(ctx))) }()
	loading, err := stored.load(ctx, loaded, s.dir)
	if err != nil {
		return r, err
	}
	documents := float64(c.Documents)
	r.add("stored, from the upload's begin", documents/storing.Seconds(), "documents/s")
	r.add("the same in annotations", float64(annotated)/storing.Seconds(), "annotations/s")
	r.add("loaded without anything else", documents/loading.Seconds(), "documents/s")
	r.add("time, of that of loading", storing.Seconds()/loading.Seconds(), "×")
	used := after.since(before)
	used.processors(&r, "document", documents)
	if used.storage.Bytes > 0 {
		r.add("log written", float64(used.storage.Bytes)/documents, "B/document")
	}
	return r, nil
}

// collection uploads a file of annotations and waits until all of it is stored. It returns how many annotations it has.
func (s *site) collection(ctx context.Context, path string) (int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("open the collection: %w", err)
	}
	defer file.Close()
	up, err := s.client.Upload(ctx, file, client.Upload{Project: "bench", FileName: filepath.Base(path)})
	if err != nil {
		return 0, fmt.Errorf("upload %s: %w", path, err)
	}
	job, err := s.ended(ctx, up.JobID)
	return job.GetProgress().GetAnnotations(), err
}

// annotationStore is an empty annotation store on an engine of a site, with its tables.
type annotationStore struct {
	name string             // as --store has it
	path string             // SQLite
	db   *postgres.Database // Postgres
}

func (s *site) store(ctx context.Context, c Config, name string) (a annotationStore, err error) {
	if s.db != nil {
		if a.db, err = postgres.Create(ctx, c.Database); err != nil {
			return a, err
		}
		a.name = a.db.DSN
	} else {
		a.path = filepath.Join(s.dir, name+".db")
		a.name = "sqlite:" + a.path
	}
	made, err := stores.Open(ctx, a.name)
	if err == nil {
		err = made.Close()
	}
	if err != nil {
		return a, errors.Join(err, a.drop(context.WithoutCancel(ctx)))
	}
	return a, nil
}

// drop removes a database; a file goes with its site.
func (a annotationStore) drop(ctx context.Context) error {
	if a.db == nil {
		return nil
	}
	return a.db.Drop(ctx)
}

// load copies what is stored into another store, and returns how long the writing took.
func (a annotationStore) load(ctx context.Context, to annotationStore, folder string) (took time.Duration, err error) {
	timed := func(do func() error) error {
		begun := time.Now()
		err := do()
		took += time.Since(begun)
		return err
	}
	if a.db != nil {
		_, err = postgres.Load(ctx, a.db.DSN, to.db.DSN, folder, store.Tables(), timed)
	} else {
		_, err = sqlite.Load(ctx, a.path, to.path, store.Tables(), timed)
	}
	return took, err
}
