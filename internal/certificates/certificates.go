// Package certificates reads certificates and keys, and reads them anew when their files have changed.
package certificates

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// lookEvery is the least time between two looks at the files.
const lookEvery = time.Second

// Files names PEM files; those that are empty are not used.
type Files struct {
	Certificate string // with those that lead to its authority
	Key         string
	ClientCA    string // authorities of the certificates of clients
}

// Server returns the configuration of a server with these files. A client may show a certificate if there is a ClientCA,
// and who shows one that no authority there vouches for is refused. Each handshake looks whether the files have changed;
// while what they have now cannot be used, which is logged, what they had before is.
func Server(f Files, logger *slog.Logger) (*tls.Config, error) {
	k := &keeper{read: f.server, files: []string{f.Certificate, f.Key, f.ClientCA}, logger: logger}
	first, err := k.first()
	if err != nil {
		return nil, err
	}
	config := first.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.current(), nil }
	return config, nil
}

func (f Files) server() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}
	if f.ClientCA != "" {
		if config.ClientCAs, err = Authorities(f.ClientCA); err != nil {
			return nil, err
		}
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return config, nil
}

// Client returns the configuration of a client: ca names a file of the authorities that it trusts, "" or "system" for those
// of the system. A certificate that it shows is read anew when its file has changed; the authorities are not.
func Client(f Files, ca string, logger *slog.Logger) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" && ca != "system" {
		var err error
		if config.RootCAs, err = Authorities(ca); err != nil {
			return nil, err
		}
	}
	if f.Certificate == "" && f.Key == "" {
		return config, nil
	}
	k := &keeper{read: f.server, files: []string{f.Certificate, f.Key}, logger: logger}
	if _, err := k.first(); err != nil {
		return nil, err
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &k.current().Certificates[0], nil
	}
	return config, nil
}

// Authorities reads a file of certificates of authorities.
func Authorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read certificates of authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read certificates of authorities: %s has none in PEM form", file)
	}
	return pool, nil
}

// keeper keeps what was read last. It is safe for concurrent use.
type keeper struct {
	read   func() (*tls.Config, error)
	files  []string
	logger *slog.Logger

	mu     sync.Mutex
	looked time.Time
	stamp  string // of the files, when they were read
	config *tls.Config
}

func (k *keeper) first() (*tls.Config, error) {
	k.looked, k.stamp = time.Now(), k.stamps()
	var err error
	k.config, err = k.read()
	return k.config, err
}

// stamps tells one state of the files from another.
func (k *keeper) stamps() string {
	var all strings.Builder
	for _, file := range k.files {
		if file == "" {
			continue
		}
		info, err := os.Stat(file)
		if err != nil {
			fmt.Fprintln(&all, err)
			continue
		}
		fmt.Fprintln(&all, info.ModTime().UnixNano(), info.Size())
	}
	return all.String()
}

func (k *keeper) current() *tls.Config {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.looked) < lookEvery {
		return k.config
	}
	k.looked = time.Now()
	stamp := k.stamps()
	if stamp == k.stamp {
		return k.config
	}
	k.stamp = stamp
	config, err := k.read()
	if err != nil {
		k.logger.Error("changed certificates cannot be used; those of before are", "error", err)
		return k.config
	}
	k.logger.Info("certificates read anew", "file", k.files[0])
	k.config = config
	return config
}
