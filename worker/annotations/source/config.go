package source

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"time"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

// The names of settings, by which errors name them; those of flags are the same.
const (
	SettingBatch    = "source-batch"
	SettingRate     = "source-rate"
	SettingTimeout  = "source-timeout"
	SettingPatience = "source-patience"
	SettingMaxBytes = "source-max-bytes"
)

// DefaultRate is how many calls a second a source gets.
const DefaultRate = 10.0

// maxBatch is the most ids that a call may have.
const maxBatch = 1000

// Config of a Source. SourceDB and URL are needed; zero values of the rest mean the defaults.
type Config struct {
	SourceDB string // of the documents, in canonical spelling
	URL      string // http or https; a user and a password in it are sent as basic authentication

	// Header is sent with each call, such as an API key. It does not follow redirections to other hosts.
	Header http.Header

	Batch      int           // ids in a call; default 100, at most 1000
	Rate       float64       // calls a second; default DefaultRate, negative: no limit
	Calls      int           // under way at the same time; default 4
	Timeout    time.Duration // of a call; default 30 s
	Patience   time.Duration // for which a Lookup tries again what may pass; default 30 s
	MaxBytes   int64         // of an answer, decompressed; default 64 MiB, at most store.MaxDocumentBytes
	CacheBytes int64         // that answers are remembered in; default 64 MiB

	UserAgent string            // default "tallyman"
	Transport http.RoundTripper // default: one like http.DefaultTransport, with its proxies
	Logger    *slog.Logger      // default: none
}

// Validate reports the first field that cannot be used. Its error does not have the URL's password in it.
func (c Config) Validate() error {
	if key, err := annotation.NewKey(c.SourceDB, "1"); err != nil || key.SourceDB != c.SourceDB {
		return fmt.Errorf("the source's sourcedb %q is not the name of a database", c.SourceDB)
	}
	if err := CheckURL(c.URL); err != nil {
		return fmt.Errorf("the source of %s: %w", c.SourceDB, err)
	}
	switch {
	case c.Batch < 0 || c.Batch > maxBatch:
		return fmt.Errorf("%s %d: must be 1 to %d", SettingBatch, c.Batch, maxBatch)
	case math.IsNaN(c.Rate) || math.IsInf(c.Rate, 0):
		return fmt.Errorf("%s %v: must be a number", SettingRate, c.Rate)
	case c.Calls < 0:
		return fmt.Errorf("%d calls at the same time: must not be negative", c.Calls)
	case c.Timeout < 0:
		return fmt.Errorf("%s %v: must not be negative", SettingTimeout, c.Timeout)
	case c.Patience < 0:
		return fmt.Errorf("%s %v: must not be negative", SettingPatience, c.Patience)
	case c.MaxBytes < 0 || c.MaxBytes > store.MaxDocumentBytes: // so that a document which fits is one that can be stored
		return fmt.Errorf("%s %d: must be 1 to %d", SettingMaxBytes, c.MaxBytes, store.MaxDocumentBytes)
	case c.CacheBytes < 0:
		return fmt.Errorf("%d bytes of memory for answers: must not be negative", c.CacheBytes)
	}
	return nil
}

// CheckURL reports why a URL cannot be that of a source, without showing it.
func CheckURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		var detail *url.Error
		if errors.As(err, &detail) {
			err = detail.Err
		}
		return fmt.Errorf("its URL is not one: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return errors.New("its URL must begin with http:// or https:// and name a host")
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.Batch = cmp.Or(c.Batch, 100)
	c.Rate = cmp.Or(c.Rate, DefaultRate)
	c.Calls = cmp.Or(c.Calls, 4)
	c.Timeout = cmp.Or(c.Timeout, 30*time.Second)
	c.Patience = cmp.Or(c.Patience, 30*time.Second)
	c.MaxBytes = cmp.Or(c.MaxBytes, 64<<20)
	c.CacheBytes = cmp.Or(c.CacheBytes, 64<<20)
	c.UserAgent = cmp.Or(c.UserAgent, "tallyman")
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// shown returns a URL as people may see it: without user, password, query and fragment, which may be secrets.
func shown(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
