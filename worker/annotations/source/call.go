package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// failure is what made a call fail and says nothing about its ids.
type failure struct {
	err   error
	slow  bool          // it took too long: fewer ids may not
	after time.Duration // that the source wants to be left alone for; 0: it does not say
	final bool          // trying again soon is of no use
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// refusal is an answer that is an error, or cannot be used.
type refusal struct {
	status int // of HTTP; 200 for an answer that cannot be used
	said   string
	large  bool // fewer ids may be answered
}

func (r *refusal) Error() string { return r.said }

// maxError is how much is read of the words of an error, in bytes.
const maxError = 4 << 10

var errSlow = errors.New("the answer took too long")

// call asks for ids, once, when it is its turn. Its errors are a failure, a refusal, or the cause of ctx.
func (s *Source) call(ctx context.Context, ids []string) (answer, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return answer{}, err
	}
	defer leave()
	bounded, cancel := context.WithTimeoutCause(ctx, s.config.Timeout, errSlow)
	defer cancel()
	a, err := s.exchange(bounded, ids)
	switch {
	case err == nil:
		return a, nil
	case ctx.Err() != nil:
		return answer{}, context.Cause(ctx)
	case bounded.Err() != nil:
		return answer{}, &failure{err: fmt.Errorf("%w: %s is %v", errSlow, SettingTimeout, s.config.Timeout), slow: true}
	}
	return answer{}, err
}

// enter waits for a call's turn. The caller leaves when it is over.
func (s *Source) enter(ctx context.Context) (leave func(), err error) {
	select {
	case s.calls <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	leave = func() { <-s.calls }
	turn := s.limiter.Reserve()
	if err := pause(ctx, turn.Delay()); err != nil {
		turn.Cancel()
		leave()
		return nil, err
	}
	return leave, nil
}

// pause waits. Its error is the cause of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Source) exchange(ctx context.Context, ids []string) (answer, error) {
	body, err := json.Marshal(append([]string{}, ids...))
	if err != nil {
		return answer{}, fmt.Errorf("encode ids: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.config.URL, bytes.NewReader(body))
	if err != nil {
		return answer{}, fmt.Errorf("make request: %w", err)
	}
	for name, values := range s.config.Header {
		request.Header[http.CanonicalHeaderKey(name)] = values
	}
	if host := s.config.Header.Get("Host"); host != "" {
		request.Host = host
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", s.config.UserAgent)
	response, err := s.client.Do(request)
	if err != nil {
		return answer{}, &failure{err: plain(err)}
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		return answer{}, failed(response)
	}
	return s.read(response.Body, ids)
}

// read reads the answer that a body is.
func (s *Source) read(body io.Reader, ids []string) (answer, error) {
	asked := make(map[string]bool, len(ids))
	for _, id := range ids {
		asked[id] = true
	}
	r := &limited{from: body, left: s.config.MaxBytes}
	a, err := decode(r, s.config.SourceDB, asked)
	switch {
	case err == nil:
		return a, nil
	case r.exceeded:
		return answer{}, &refusal{
			status: http.StatusOK, large: true,
			said: fmt.Sprintf("an answer of more than %d bytes (%s)", s.config.MaxBytes, SettingMaxBytes),
		}
	case r.err != nil:
		return answer{}, &failure{err: fmt.Errorf("read the answer: %w", plain(r.err))}
	case errors.Is(err, io.EOF): // nothing at all
		return answer{}, &refusal{status: http.StatusOK, said: "an empty answer"}
	}
	return answer{}, &refusal{status: http.StatusOK, said: "an answer that cannot be used: " + words(err.Error())}
}

// failed says what a status means that is not a success.
func failed(response *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(response.Body, maxError)) // what there is of it
	said := status(response.StatusCode)
	if w := words(string(text)); w != "" && !strings.HasPrefix(w, "<") { // a page in HTML says little
		said += ", " + strconv.Quote(w)
	}
	f := &failure{err: errors.New(said)}
	switch response.StatusCode {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		f.final = true
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		f.slow = true
	case http.StatusTooEarly, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable:
		f.after = retryAfter(response.Header.Get("Retry-After"))
	default:
		return &refusal{
			status: response.StatusCode, said: said, large: response.StatusCode == http.StatusRequestEntityTooLarge,
		}
	}
	return f
}

// status returns a status as people know it: "404 Not Found".
func status(code int) string {
	return strings.TrimSpace(strconv.Itoa(code) + " " + http.StatusText(code))
}

// longestRest is the longest that a source is left alone for because it asks for it.
const longestRest = 5 * time.Minute

// retryAfter reads the header of this name, seconds or a date. What it is not is 0.
func retryAfter(value string) time.Duration {
	if value == "" {
		return 0
	}
	after := time.Duration(0)
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		after = time.Duration(seconds) * time.Second
	} else if date, err := http.ParseTime(value); err == nil {
		after = time.Until(date)
	}
	return min(max(after, 0), longestRest)
}

// plain takes the URL, which may be a secret, out of an error of package http.
func plain(err error) error {
	var detail *url.Error
	if errors.As(err, &detail) {
		return detail.Err
	}
	return err
}

// limited reads no more than is left, and keeps what made it end before the end of the input.
type limited struct {
	from     io.Reader
	left     int64
	exceeded bool
	err      error // of from, but for io.EOF
}

// Read implements [io.Reader].
func (r *limited) Read(p []byte) (int, error) {
	if int64(len(p)) > r.left+1 {
		p = p[:r.left+1]
	}
	n, err := r.from.Read(p)
	r.left -= int64(n)
	if r.left < 0 {
		r.exceeded = true
		return 0, errors.New("too much")
	}
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}
