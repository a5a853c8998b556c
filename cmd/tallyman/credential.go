package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tallyman-dev/tallyman/internal/certificates"
)

// tokenVariable has the token. It is not a flag: arguments are shown to everybody on the host.
const tokenVariable = environmentPrefix + "TOKEN"

const insecureFlag = "insecure"

// credential is what this program shows to coordinators, and what it demands of them.
type credential struct {
	tls   *tls.Config            // nil for no encryption
	token func() (string, error) // nil for none
	clear bool                   // the token may be sent without encryption
}

// credentialFlags are those of whoever talks to a coordinator, and of a coordinator that talks to clients.
func (p *program) credentialFlags(flags *pflag.FlagSet) {
	flags.StringVar(&p.tlsCA, "tls-ca", "", "speak TLS, with coordinators whose authority is in this PEM file, or in the system's with \"system\"")
	flags.StringVar(&p.tls.Certificate, "tls-cert", "", "PEM file of this program's own certificate: of serve the server's, else the client's")
	flags.StringVar(&p.tls.Key, "tls-key", "", "PEM file of its key")
	flags.StringVar(&p.tokenFile, "token-file", "", "file of the token to show to coordinators (or the token in "+tokenVariable+")")
	flags.Bool(insecureFlag, false, "send the token to other hosts also without TLS")
}

// credential returns what the flags say of a client.
func (p *program) credential(verb *cobra.Command) (c credential, err error) {
	if c.clear, err = verb.Flags().GetBool(insecureFlag); err != nil {
		return c, err
	}
	if (p.tls.Certificate == "") != (p.tls.Key == "") {
		return c, usageError("--tls-cert and --tls-key belong together: give both or neither")
	}
	if p.tlsCA != "" || p.tls.Certificate != "" {
		logger, err := p.logger(p.stderr, slog.LevelWarn)
		if err != nil {
			return c, err
		}
		if c.tls, err = certificates.Client(p.tls, p.tlsCA, logger); err != nil {
			return c, err
		}
	}
	if p.tokenFile != "" {
		f := &tokenFile{path: p.tokenFile}
		if _, err := f.token(); err != nil {
			return c, err
		}
		c.token = f.token
		return c, nil
	}
	if token := os.Getenv(tokenVariable); token != "" {
		token, err := cleanToken(token)
		if err != nil {
			return c, usageError("%s: %w", tokenVariable, err)
		}
		// The commands that this program runs are not to have it.
		if err := os.Unsetenv(tokenVariable); err != nil {
			return c, fmt.Errorf("take the token from the environment: %w", err)
		}
		c.token = func() (string, error) { return token, nil }
	}
	return c, nil
}

// cleanToken returns a token without the white space around it. Errors do not quote it.
func cleanToken(text string) (string, error) {
	token := strings.TrimSpace(text)
	if token == "" {
		return "", fmt.Errorf("there is no token in it")
	}
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return "", fmt.Errorf("what is in it is no token: one line of letters and digits")
		}
	}
	return token, nil
}

// tokenFile is a token in a file, which may change.
type tokenFile struct {
	path string

	mu   sync.Mutex
	kept string
	read time.Time
}

// tokenKept is for how long a token is not read anew.
const tokenKept = time.Second

func (f *tokenFile) token() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept != "" && time.Since(f.read) < tokenKept {
		return f.kept, nil
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token, err := cleanToken(string(text))
	if err != nil {
		return "", fmt.Errorf("read token from %s: %w", f.path, err)
	}
	f.kept, f.read = token, time.Now()
	return token, nil
}
