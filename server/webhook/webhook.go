package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/server/store"
)

// The headers of a delivery.
const (
	HeaderSignature = "Tallyman-Signature" // t=SECONDS,v1=HEX, where HEX is HMAC-SHA256(secret, "SECONDS." + body)
	HeaderDelivery  = "Tallyman-Delivery"  // its id, the same however often it is sent
	HeaderEvent     = "Tallyman-Event"
)

// Bounds.
const (
	secretLeast = 16               // bytes
	sendMost    = 10 * time.Second // for an answer
	hold        = time.Minute      // longer than what is taken together takes
	atOnce      = 8
	poll        = 2 * time.Second
	firstWait   = 5 * time.Second
	longestWait = 15 * time.Minute
	giveUpAfter = 24 * time.Hour
	remembered  = 7 * 24 * time.Hour
	forgetStep  = 100
	rateEvery   = time.Minute
	rateEnough  = 20 // batches, of which a crash rate is worth a word
)

// Store is what a sender needs of the coordinator's store.
type Store interface {
	store.Deliveries
	Now(ctx context.Context) (time.Time, error)
}

// Meter is told what became of deliveries.
type Meter interface {
	// Delivered says how a try to send one ended: delivered, failed or given_up.
	Delivered(result string)
}

// Config says where deliveries go. The zero value sends none.
type Config struct {
	URL          string  // "" for none
	Secret       []byte  // with which they are signed; at least 16 bytes
	MaxCrashRate float64 // above which that is told; 0 for never

	// Transport makes the requests; default http.DefaultTransport.
	Transport http.RoundTripper
}

// Chosen reports whether there is anything to send to.
func (c *Config) Chosen() bool { return c.URL != "" }

// Validate reports what cannot be used. It does not quote the URL, which may have a password in it.
func (c *Config) Validate() error {
	if !c.Chosen() {
		return nil
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("webhook-url must be an address such as https://hooks.example.org/tallyman")
	case len(c.Secret) < secretLeast:
		return fmt.Errorf("the secret of the webhook has %d bytes, at least %d are needed", len(c.Secret), secretLeast)
	case c.MaxCrashRate < 0 || c.MaxCrashRate > 1:
		return errors.New("webhook-max-crash-rate must be 0 to 1")
	}
	return nil
}

// Sender sends what is to be delivered. Any number of them may share a database.
type Sender struct {
	cfg     Config
	store   Store
	figures func() (store.Figures, bool)
	meter   Meter
	log     *slog.Logger
	client  *http.Client
	wake    chan struct{}
}

// New returns a sender that works while its Run does. figures returns what the database is at, false while that is not known.
func New(cfg Config, st Store, figures func() (store.Figures, bool), meter Meter, log *slog.Logger) *Sender {
	return &Sender{
		cfg: cfg, store: st, figures: figures, meter: meter, log: log, wake: make(chan struct{}, 1),
		client: &http.Client{Transport: cfg.Transport, Timeout: sendMost, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // a signed message goes where it was meant to go, or nowhere
		}},
	}
}

// Wake says that there may be something to deliver. It does not block.
func (s *Sender) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends.
func (s *Sender) Run(ctx context.Context) {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	rates := time.NewTicker(rateEvery)
	defer rates.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			err = s.SendOnce(ctx)
		case <-ticker.C:
			err = s.SendOnce(ctx)
		case <-rates.C:
			err = errors.Join(s.WatchOnce(ctx), s.forget(ctx))
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("upkeep failed", "what", "deliver by webhook", "error", err)
		}
	}
}

// SendOnce sends what is due.
func (s *Sender) SendOnce(ctx context.Context) error {
	for {
		taken, err := s.store.TakeDeliveries(ctx, hold, atOnce)
		if err != nil || len(taken) == 0 {
			return err
		}
		errs := make([]error, len(taken))
		var sending sync.WaitGroup
		for i := range taken {
			sending.Go(func() { errs[i] = s.deliver(ctx, &taken[i]) })
		}
		sending.Wait()
		if err := errors.Join(errs...); err != nil || len(taken) < atOnce {
			return err
		}
	}
}

// deliver tries once to send one, and notes what became of it.
func (s *Sender) deliver(ctx context.Context, d *store.Delivery) error {
	err := s.post(ctx, d)
	switch {
	case err == nil:
		s.meter.Delivered("delivered")
		return s.store.EndDelivery(ctx, d.ID)
	case ctx.Err() != nil:
		return nil //nolint:nilerr // the end was wanted; it is due again when it is not held any more
	}
	now, clock := s.store.Now(ctx)
	if clock != nil {
		return clock
	}
	if now.Sub(d.CreatedAt) > giveUpAfter {
		s.meter.Delivered("given_up")
		s.log.Warn("webhook given up", "delivery", d.ID, "event", d.Event, "tries", d.Tries, "error", err)
		return s.store.EndDelivery(ctx, d.ID)
	}
	s.meter.Delivered("failed")
	wait := backoff(d.Tries)
	s.log.Info("webhook not delivered", "delivery", d.ID, "event", d.Event, "tries", d.Tries, "again_in", wait, "error", err)
	return s.store.PostponeDelivery(ctx, d.ID, d.Tries, wait)
}

// backoff doubles with every try, give or take a tenth.
func backoff(tries int32) time.Duration {
	wait := longestWait
	if doublings := max(tries-1, 0); doublings < 16 {
		wait = min(firstWait<<doublings, longestWait)
	}
	return (wait*9/10 + rand.N(wait/5)).Round(time.Millisecond)
}

func (s *Sender) post(ctx context.Context, d *store.Delivery) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL, bytes.NewReader(d.Body))
	if err != nil {
		return errors.New("the address cannot be used")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "tallyman")
	request.Header.Set(HeaderDelivery, d.ID)
	request.Header.Set(HeaderEvent, d.Event)
	request.Header.Set(HeaderSignature, Sign(s.cfg.Secret, time.Now(), d.Body))
	answer, err := s.client.Do(request)
	if err != nil {
		var about *url.Error
		if errors.As(err, &about) {
			err = about.Err // without the address, which may have a password in it
		}
		return err
	}
	defer answer.Body.Close()
	if _, err := io.CopyN(io.Discard, answer.Body, 64<<10); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("it was answered with %d", answer.StatusCode)
	}
	return nil
}

// Sign returns the signature of a body that is sent at a time.
func Sign(secret []byte, at time.Time, body []byte) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(seconds + "."))
	mac.Write(body)
	return "t=" + seconds + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// WatchOnce adds a delivery when the crash rate is above the limit, unless there is one of this hour.
func (s *Sender) WatchOnce(ctx context.Context) error {
	if s.cfg.MaxCrashRate <= 0 {
		return nil
	}
	f, known := s.figures()
	if !known || f.Settled() < rateEnough || f.CrashRate() <= s.cfg.MaxCrashRate {
		return nil
	}
	now, err := s.store.Now(ctx)
	if err != nil {
		return err
	}
	d, err := store.CrashRateExceeded(now, &f, s.cfg.MaxCrashRate)
	if err != nil {
		return err
	}
	added, err := s.store.AddDelivery(ctx, d)
	if added {
		s.Wake()
	}
	return err
}

// forget removes what was delivered long ago.
func (s *Sender) forget(ctx context.Context) error {
	for {
		n, err := s.store.ForgetDeliveries(ctx, remembered, forgetStep)
		if err != nil || n < forgetStep {
			return err
		}
	}
}
