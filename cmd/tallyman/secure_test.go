package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority makes certificates, as PEM files of its folder.
type authority struct {
	t      *testing.T
	folder string
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, folder: t.TempDir()}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = a.write("ca", a.cert)
	return a
}

// path returns that of one of its files.
func (a *authority) path(file string) string { return filepath.Join(a.folder, file) }

// issue writes NAME.pem and NAME.key: a server's for this host if it has no uri, else a client's.
func (a *authority) issue(name string, serial int64, uri string) {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if uri == "" {
		template.IPAddresses, template.ExtKeyUsage = []net.IP{net.IPv4(127, 0, 0, 1)}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	} else {
		u, err := url.Parse(uri)
		if err != nil {
			a.t.Fatal(err)
		}
		template.URIs, template.ExtKeyUsage = []*url.URL{u}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	a.write(name, template)
}

func (a *authority) write(name string, template *x509.Certificate) *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: certificate}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: encoded},
	} {
		if err := os.WriteFile(a.path(file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return key
}

// newToken makes a token on a data folder and returns the file that it is in.
func newToken(t *testing.T, data, name, role string, more ...string) string {
	t.Helper()
	token := must(t, exitOK, append([]string{"token", "create", name, "--role", role, "--data", data}, more...)...).stdout
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCallersAreKnown speaks TLS with a server that asks everybody who he is.
func TestCallersAreKnown(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue("server", 2, "")
	a.issue("operator", 3, "tallyman:viewer")
	a.issue("someone", 4, "urn:other")
	_, data, address := serve(t, "--workers", "1", "--tls-cert", a.path("server.pem"), "--tls-key", a.path("server.key"),
		"--tls-client-ca", a.path("ca.pem"))
	ann := newToken(t, data, "ann", "submitter", "--project", "known-callers")
	bob := newToken(t, data, "bob", "viewer", "--project", "other-project")
	run := func(code int, args ...string) result {
		t.Helper()
		return must(t, code, append(args, "--server", address, "--tls-ca", a.path("ca.pem"))...)
	}

	if r := must(t, exitUnreachable, "jobs", "--server", address); !strings.Contains(r.stderr, "--tls-ca") {
		t.Errorf("who speaks without TLS is told %q", r.stderr)
	}
	if r := run(exitNotPermitted, "jobs"); !strings.Contains(r.stderr, "--token-file") {
		t.Errorf("who shows nothing is told %q", r.stderr)
	}
	collection := filepath.Join(t.TempDir(), "one.jsonl")
	item := `{"sourcedb":"PubMed","sourceid":"1","text":"known","denotations":[{"span":{"begin":0,"end":5},"obj":"Word"}]}`
	if err := os.WriteFile(collection, []byte(item+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(exitNotPermitted, "submit", collection, "--project", "other-project", "--token-file", ann)
	run(exitOK, "submit", collection, "--project", "known-callers", "--watch", "--token-file", ann)
	if got := len(objects(t, run(exitOK, "jobs", "-o", "json", "--token-file", ann).stdout)); got != 1 {
		t.Errorf("who submitted sees %d jobs, want 1", got)
	}
	if got := len(objects(t, run(exitOK, "jobs", "-o", "json", "--token-file", bob).stdout)); got != 0 {
		t.Errorf("who is confined to another project sees %d jobs", got)
	}
	run(exitNotPermitted, "cancel", "1", "--yes", "--token-file", bob)
	shown := []string{"--tls-cert", a.path("operator.pem"), "--tls-key", a.path("operator.key")}
	if got := len(objects(t, run(exitOK, append([]string{"jobs", "-o", "json"}, shown...)...).stdout)); got != 1 {
		t.Errorf("the holder of a certificate sees %d jobs, want 1", got)
	}
	run(exitNotPermitted, append([]string{"cancel", "1", "--yes"}, shown...)...)
	run(exitNotPermitted, "jobs", "--tls-cert", a.path("someone.pem"), "--tls-key", a.path("someone.key"))

	tokens := objects(t, must(t, exitOK, "token", "list", "-o", "json", "--data", data).stdout)
	if len(tokens) != 2 {
		t.Fatalf("tokens: %v", tokens)
	}
	must(t, exitOK, "token", "revoke", "1", "--data", data)
	awhile(t, "the token to be refused", func() bool {
		args := []string{"jobs", "--server", address, "--tls-ca", a.path("ca.pem"), "--token-file", ann}
		return tallyman(t, args...).code == exitNotPermitted
	})
}

// TestRenewedCertificateIsTakenUp replaces the files of a server's certificate while it serves.
func TestRenewedCertificateIsTakenUp(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue("server", 2, "")
	_, _, address := serve(t, "--tls-cert", a.path("server.pem"), "--tls-key", a.path("server.key"))
	roots := x509.NewCertPool()
	roots.AddCert(a.root())
	serial := func() int64 {
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatalf("connect: %v", err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 2 {
		t.Fatalf("it serves certificate %d, want 2", got)
	}
	a.issue("server", 7, "")
	awhile(t, "the renewed certificate", func() bool { return serial() == 7 })
}

// root returns the authority's own certificate.
func (a *authority) root() *x509.Certificate {
	a.t.Helper()
	content, err := os.ReadFile(a.path("ca.pem"))
	if err != nil {
		a.t.Fatal(err)
	}
	block, _ := pem.Decode(content)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		a.t.Fatal(err)
	}
	return root
}

// awhile waits until something holds, for a minute at most.
func awhile(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-end.C:
			t.Fatalf("waited a minute for %s in vain", what)
		}
	}
}
