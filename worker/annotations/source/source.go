package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// ErrUnavailable is returned when a source could not be reached, or did not do its work, for as long as is tried. It says
// nothing about the ids.
var ErrUnavailable = errors.New("the document source is unavailable")

// Document is what a source says of an id.
type Document struct {
	Text   string // empty if it gives none
	Length int    // of Text, in code points

	// Reason says in a sentence, which names source and document, why there is no text.
	Reason  string
	Refused bool // it answers with an error, or with nothing usable; otherwise it does not have the document
}

// Source gets documents of one sourcedb. It is safe for concurrent use.
type Source struct {
	config  Config
	name    string // for people
	client  *http.Client
	calls   chan struct{} // holds a token for each call under way
	limiter *rate.Limiter

	mu      sync.Mutex
	cache   cache
	flights map[string]*flight // by id, of what is being asked for
	most    int                // ids in a call, at the moment
	good    string             // the last id that had a text; empty if there is none
	outage  outage
}

// flight is an id that a Lookup asks for. The others wait for it.
type flight struct {
	done chan struct{}
	doc  Document // once done, if err is nil
	err  error
}

// errAbandoned is that of a flight whose Lookup was told to end.
var errAbandoned = errors.New("the lookup was given up")

// New returns a source, which must be closed. It does not reach for it.
func New(config Config) (*Source, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	s := &Source{
		config: config, name: fmt.Sprintf("%s (%s)", config.SourceDB, shown(config.URL)),
		calls: make(chan struct{}, config.Calls), limiter: rate.NewLimiter(rate.Inf, 1),
		cache: newCache(config.CacheBytes), flights: make(map[string]*flight), most: config.Batch,
	}
	if config.Rate > 0 {
		s.limiter.SetLimit(rate.Limit(config.Rate))
	}
	transport := config.Transport
	if transport == nil {
		transport = newTransport(config)
	}
	s.client = &http.Client{Transport: transport, CheckRedirect: s.redirect}
	return s, nil
}

const (
	maxResponseHeader = 256 << 10 // bytes
	maxRedirects      = 10        // as package http has it
)

func newTransport(config Config) *http.Transport {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if usual, ok := http.DefaultTransport.(*http.Transport); ok {
		t = usual.Clone()
	}
	t.MaxIdleConnsPerHost, t.MaxResponseHeaderBytes = config.Calls, maxResponseHeader
	return t
}

// redirect is what package http does by itself, but for headers that are the source's only.
func (s *Source) redirect(request *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	}
	if request.URL.Host != via[0].URL.Host || request.URL.Scheme != via[0].URL.Scheme {
		for name := range s.config.Header {
			request.Header.Del(name)
		}
	}
	return nil
}

// Batch returns how many ids a call has at most.
func (s *Source) Batch() int { return s.config.Batch }

// Close closes idle connections. No Lookup may be under way.
func (s *Source) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

// Lookup returns what the source says of ids, which are in canonical spelling: of all of them, or of the first ones, at
// least one, if their texts take more memory than one answer may. What the source was asked for not long ago, or is being
// asked for at the same time, it is not asked for again. The error is ErrUnavailable or the cause of ctx.
func (s *Source) Lookup(ctx context.Context, ids []string) ([]Document, error) {
	docs := make(map[string]Document, len(ids))
	for {
		own, others := s.claim(ids, docs)
		enough := false
		switch err := s.ask(ctx, own, docs); {
		case errors.Is(err, errEnough):
			enough = true
		case err != nil:
			return nil, err
		}
		for id, f := range others {
			select {
			case <-f.done:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			switch {
			case f.err == nil:
				docs[id] = f.doc
			case !errors.Is(f.err, errAbandoned):
				return nil, f.err
			}
		}
		list := inOrder(ids, docs)
		if len(list) == len(ids) || enough && len(list) > 0 {
			return list, nil
		}
	}
}

// inOrder returns the documents of ids up to the first that is not there.
func inOrder(ids []string, docs map[string]Document) []Document {
	list := make([]Document, 0, len(ids))
	for _, id := range ids {
		doc, ok := docs[id]
		if !ok {
			break
		}
		list = append(list, doc)
	}
	return list
}

// claim sorts the ids that docs lacks: what is known goes there, what nobody asks for is the caller's to ask for.
func (s *Source) claim(ids []string, docs map[string]Document) (own []string, others map[string]*flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := make(map[string]bool)
	others = make(map[string]*flight)
	for _, id := range ids {
		if _, ok := docs[id]; ok || mine[id] {
			continue
		}
		if doc, ok := s.cache.get(id); ok {
			docs[id] = doc
		} else if f := s.flights[id]; f != nil {
			others[id] = f
		} else {
			s.flights[id] = &flight{done: make(chan struct{})}
			own, mine[id] = append(own, id), true
		}
	}
	return own, others
}

// ask asks for ids that were claimed, and tells those who wait for them.
func (s *Source) ask(ctx context.Context, own []string, docs map[string]Document) error {
	a := newAsking(s, func(id string, doc Document) {
		docs[id] = doc
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cache.put(id, doc)
		s.land(id, doc, nil)
	})
	err := a.all(ctx, own)
	if err == nil {
		return nil
	}
	told := err
	if ctx.Err() != nil || errors.Is(err, errEnough) {
		told = errAbandoned
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range own {
		if _, ok := docs[id]; !ok {
			s.land(id, Document{}, told)
		}
	}
	return err
}

// land ends the flight of an id. The lock must be held.
func (s *Source) land(id string, doc Document, err error) {
	f := s.flights[id]
	f.doc, f.err = doc, err
	delete(s.flights, id)
	close(f.done)
}

// outage is what is known of a source that does not answer. The source's lock guards it.
type outage struct {
	since    time.Time // zero: there is none
	reminded time.Time // when it was logged last
	lasting  bool      // a Lookup has given up, so that others need not be patient
	until    time.Time // the source wants to be left alone until then
}

// remindAfter is how often an outage that goes on is logged again.
const remindAfter = time.Minute

// failed notes that a call has failed, and reports whether a Lookup has given up before.
func (s *Source) failed(f *failure) (lasting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, o := time.Now(), &s.outage
	if f.after > 0 {
		o.until = now.Add(f.after)
	}
	switch {
	case o.since.IsZero():
		o.since, o.reminded = now, now
		s.config.Logger.Warn("document source does not answer, trying again", "source", s.name, "error", f.err)
	case now.Sub(o.reminded) >= remindAfter:
		o.reminded = now
		s.config.Logger.Warn("document source still does not answer", "source", s.name,
			"outage", now.Sub(o.since).Round(time.Second), "error", f.err)
	}
	return o.lasting
}

// gaveUp notes that a Lookup has given up, and returns its error.
func (s *Source) gaveUp(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outage.lasting = true
	return fmt.Errorf("%w: %s: %s", ErrUnavailable, s.name, err.Error()) // what err is matters no more
}

// answered notes that a call was answered as it should be.
func (s *Source) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = min(s.most+1, s.config.Batch)
	if s.outage.since.IsZero() {
		return
	}
	s.config.Logger.Info("document source answers again", "source", s.name,
		"outage", time.Since(s.outage.since).Round(time.Millisecond))
	s.outage = outage{}
}

// rests returns for how long the source is to be left alone.
func (s *Source) rests() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(time.Until(s.outage.until), 0)
}

// knownGood returns an id that had a text, if there was one.
func (s *Source) knownGood() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.good
}

func (s *Source) setGood(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.good = id
}

// size returns how many ids a call has at the moment.
func (s *Source) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// shrink has calls have no more ids than this, until they are answered.
func (s *Source) shrink(most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = max(min(s.most, most), 1)
}
