package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/pflag"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
	"github.com/tallyman-dev/tallyman/worker/annotations"
	"github.com/tallyman-dev/tallyman/worker/annotations/source"
)

const (
	sourceFlag       = "source"
	sourceHeaderFlag = "source-header"
	minAlignmentFlag = "min-alignment"
)

// sourcesHelp explains --source.
const sourcesHelp = `
--source PubMed=https://… has the texts of documents of a database that are not known yet come from a service, which is
asked for up to a hundred at once. Items of a document that it does not have end as "document missing". docs/sources.md
has the rest; examples/source has a service to begin with.

An item whose text differs from that of a known document is aligned to it: docs/alignment.md. What is lost of it is an error,
one by one; if less than --min-alignment of it aligns, it is rejected.
`

// sourcing is what the flags say of the texts of documents: of their sources, and of items whose texts differ.
type sourcing struct {
	least   rate              // that must align
	said    secrets           // of --source
	sent    secrets           // of --source-header
	urls    map[string]string // by sourcedb; check fills them in
	headers map[string]http.Header
	config  source.Config // what all have in common; the logger is for whoever has the flags to set
}

func (s *sourcing) flags(flags *pflag.FlagSet) {
	flags.Var(&s.said, sourceFlag, "`NAME=URL` of a service that gives the documents of a database that are not known yet, such as "+
		"PubMed=https://…; may be given several times")
	flags.Var(&s.sent, sourceHeaderFlag, "`NAME=HEADER` for a source, such as 'PubMed=Authorization: Bearer …'; may be given several times")
	s.least = store.DefaultMinAlignment
	flags.Var(&s.least, minAlignmentFlag, "share of an item's text that must align with the document's where they differ; an item of which "+
		"less does is rejected")
	c := &s.config
	flags.Float64Var(&c.Rate, source.SettingRate, 0, "calls a second to each source; below 0 no limit (default 10)")
	flags.IntVar(&c.Batch, source.SettingBatch, 0, "documents that a source is asked for at once (default 100)")
	flags.DurationVar(&c.Timeout, source.SettingTimeout, 0, "for a call to a source (default 30s)")
	flags.DurationVar(&c.Patience, source.SettingPatience, 0,
		"for which a batch waits for a source that is down before it is given back (default 30s)")
	sizeVar(flags, &c.MaxBytes, source.SettingMaxBytes, "largest answer of a source, at most 256 MiB (default 64 MiB)")
}

// check reads what the flags say, and refuses those that do not go together. It is to be called before all else.
func (s *sourcing) check(flags *pflag.FlagSet) error {
	if s.least == 0 {
		return usageError("--%s 0%%: must be above 0 and at most 100%%", minAlignmentFlag)
	}
	var given []string
	flags.Visit(func(f *pflag.Flag) {
		if f.Name == sourceFlag || strings.HasPrefix(f.Name, sourceFlag+"-") {
			given = append(given, "--"+f.Name)
		}
	})
	switch {
	case len(given) == 0:
		return nil
	case len(s.said) == 0:
		return usageError("%s without --%s", strings.Join(given, ", "), sourceFlag)
	}
	if err := s.readURLs(); err != nil {
		return usageError("--%s: %w", sourceFlag, err)
	}
	if err := s.readHeaders(); err != nil {
		return usageError("--%s: %w", sourceHeaderFlag, err)
	}
	for _, config := range s.configs() {
		if err := config.Validate(); err != nil {
			return usageError("--%w", err)
		}
	}
	return nil
}

// configs returns those of the sources.
func (s *sourcing) configs() []source.Config {
	var list []source.Config
	for _, db := range slices.Sorted(maps.Keys(s.urls)) {
		config := s.config
		config.SourceDB, config.URL, config.Header = db, s.urls[db], s.headers[db]
		config.UserAgent = "tallyman/" + programVersion()
		list = append(list, config)
	}
	return list
}

// open returns the sources, none if s is nil, and what closes them.
func (s *sourcing) open() (annotations.Sources, func() error, error) {
	sources := make(annotations.Sources)
	var closes []func() error
	closeAll := func() error {
		var errs []error
		for _, c := range closes {
			errs = append(errs, c())
		}
		return errors.Join(errs...)
	}
	if s == nil {
		return nil, closeAll, nil
	}
	for _, config := range s.configs() {
		opened, err := source.New(config)
		if err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
		sources[config.SourceDB] = opened
		closes = append(closes, opened.Close)
	}
	return sources, closeAll, nil
}

// environment returns the settings for one of the processes that handle the batches of so many slots, and which share the
// rate. Secrets are not for the list of processes.
func (s *sourcing) environment(slots int) []string {
	set := func(flag, value string) string { return environmentName(flag) + "=" + value }
	env := []string{set(minAlignmentFlag, s.least.String())}
	if len(s.urls) == 0 {
		return env
	}
	var urls, headers []string
	for _, db := range slices.Sorted(maps.Keys(s.urls)) {
		urls = append(urls, db+"="+s.urls[db])
		for name, values := range s.headers[db] {
			for _, v := range values {
				headers = append(headers, db+"="+name+": "+v)
			}
		}
	}
	c := s.config
	rate := cmp.Or(c.Rate, source.DefaultRate)
	if rate > 0 {
		rate /= float64(cmp.Or(slots, runtime.GOMAXPROCS(0)))
	}
	env = append(env,
		set(sourceFlag, strings.Join(urls, " ")),
		set(source.SettingRate, strconv.FormatFloat(rate, 'g', -1, 64)),
		set(source.SettingBatch, strconv.Itoa(c.Batch)),
		set(source.SettingTimeout, c.Timeout.String()),
		set(source.SettingPatience, c.Patience.String()),
		set(source.SettingMaxBytes, strconv.FormatInt(c.MaxBytes, 10)),
	)
	if len(headers) > 0 {
		env = append(env, set(sourceHeaderFlag, strings.Join(headers, "\n")))
	}
	return env
}

// readURLs reads --source. Its error does not show what it may have of passwords.
func (s *sourcing) readURLs() error {
	s.urls = make(map[string]string)
	for _, field := range strings.Fields(strings.Join(s.said, " ")) {
		db, address, err := ofSource(field, "=https://host/path")
		if err != nil {
			return err
		}
		if err := source.CheckURL(address); err != nil {
			return fmt.Errorf("the source of %s: %w", db, err)
		}
		if s.urls[db] != "" {
			return fmt.Errorf("%s has two sources", db)
		}
		s.urls[db] = address
	}
	return nil
}

// readHeaders reads --source-header. Its error does not show values, which are secrets.
func (s *sourcing) readHeaders() error {
	s.headers = make(map[string]http.Header)
	for line := range strings.Lines(strings.Join(s.sent, "\n")) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		db, header, err := ofSource(strings.TrimSpace(line), "=Name: value")
		if err != nil {
			return err
		}
		name, value, ok := strings.Cut(header, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !ok || !isHeaderName(name) || strings.ContainsFunc(value, unicode.IsControl):
			return fmt.Errorf("the header for %s is not one: want %s=Name: value", db, db)
		case s.urls[db] == "":
			return fmt.Errorf("%s has no --%s", db, sourceFlag)
		case s.headers[db] == nil:
			s.headers[db] = make(http.Header)
		}
		s.headers[db].Add(name, value)
	}
	return nil
}

// isHeaderName reports whether HTTP allows the name.
func isHeaderName(name string) bool {
	const others = "!#$%&'*+-.^_`|~"
	return name != "" && strings.IndexFunc(name, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune(others, r)
	}) < 0
}

// ofSource splits what is said of one source. Its error does not show it.
func ofSource(text, form string) (db, rest string, err error) {
	name, rest, ok := strings.Cut(text, "=")
	key, err := annotation.NewKey(name, "1")
	if !ok || rest == "" || err != nil || strings.ContainsAny(name, "/:") {
		return "", "", fmt.Errorf("want the name of a database and what is said of its source, as PubMed%s", form)
	}
	return key.SourceDB, rest, nil
}

// secrets is the value of a flag that may be given several times, and that errors do not repeat: it takes anything.
type secrets []string

var _ pflag.Value = (*secrets)(nil)

// Set implements pflag.Value.
func (s *secrets) Set(text string) error {
	*s = append(*s, text)
	return nil
}

// String implements pflag.Value.
func (*secrets) String() string { return "" }

// Type implements pflag.Value.
func (*secrets) Type() string { return "text" }

// again returns --source and --source-header as they were given, with a space before each, but for what is or may be a
// secret.
func (s *sourcing) again() string {
	var text strings.Builder
	for _, db := range slices.Sorted(maps.Keys(s.urls)) {
		u, err := url.Parse(s.urls[db])
		if err != nil {
			continue // check lets none pass
		}
		if u.RawQuery != "" {
			u.RawQuery = "xxxxx"
		}
		text.WriteString(" --" + sourceFlag + "=" + quoted(db+"="+u.Redacted()))
		for _, name := range slices.Sorted(maps.Keys(s.headers[db])) {
			text.WriteString(" --" + sourceHeaderFlag + "=" + quoted(db+"="+name+": xxxxx"))
		}
	}
	return text.String()
}
