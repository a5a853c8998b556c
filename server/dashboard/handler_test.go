package dashboard_test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/server/dashboard"
)

// fetch asks the dashboard alone.
func fetch(t *testing.T, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	mux := http.NewServeMux()
	if err := dashboard.Handle(func(pattern string, _ bool, served http.HandlerFunc) { mux.HandleFunc(pattern, served) }); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

func text(t *testing.T, r io.Reader) string {
	t.Helper()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// Every page is the frame, with nothing in it that a strict policy would not run, and everything that it names is there.
func TestFrame(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/", "/jobs/7", "/upload", "/workers", "/statistics"} {
		resp := fetch(t, path)
		page := text(t, resp.Body)
		if resp.Code != http.StatusOK || !strings.HasPrefix(resp.Header().Get("Content-Security-Policy"), "default-src 'self';") {
			t.Errorf("%s: %d, policy %q", path, resp.Code, resp.Header().Get("Content-Security-Policy"))
		}
		if regexp.MustCompile(`<style|style=|<script>|\son[a-z]+=|https?://`).MatchString(page) {
			t.Errorf("%s has something of its own, or of elsewhere, in it:\n%s", path, page)
		}
		assets := regexp.MustCompile(`(?:href|src)="(/assets/[^"]*)"`).FindAllStringSubmatch(page, -1)
		if len(assets) < 5 {
			t.Errorf("%s names %d assets", path, len(assets))
		}
		for _, m := range assets {
			if r := fetch(t, m[1]); r.Code != http.StatusOK || !strings.Contains(r.Header().Get("Cache-Control"), "immutable") {
				t.Errorf("%s: %d, kept %q", m[1], r.Code, r.Header().Get("Cache-Control"))
			}
		}
	}
}

func TestAssets(t *testing.T) {
	t.Parallel()
	plain := fetch(t, "/assets/of-another-version/main.js")
	packed := fetch(t, "/assets/of-another-version/main.js", "Accept-Encoding", "gzip")
	for _, resp := range []*httptest.ResponseRecorder{plain, packed} {
		if kind := resp.Header().Get("Content-Type"); kind != "text/javascript; charset=utf-8" || resp.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("type %q, kept %q", kind, resp.Header().Get("Cache-Control"))
		}
	}
	unpacked, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	if want, got := text(t, plain.Body), text(t, unpacked); want != got || want == "" {
		t.Errorf("%d bytes plain, %d packed", len(want), len(got))
	}
	for _, path := range []string{"/assets/x/", "/assets/x/none.js", "/assets/x/frame.html", "/assets/x/%2e%2e/handler.go", "/jobs"} {
		if resp := fetch(t, path); resp.Code == http.StatusOK {
			t.Errorf("%s: %d", path, resp.Code)
		}
	}
}

// What comes from others is as it came, and its license is with it.
func TestVendored(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("assets", "vendor")
	list, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` .*`([0-9a-f]{64})` \\|$").FindAllStringSubmatch(string(list), -1) {
		sums[filepath.FromSlash(m[1])] = m[2]
	}
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == "README.md" || entry.Name() == "LICENSE" {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		file, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(file); sums[name] != hex.EncodeToString(sum[:]) {
			t.Errorf("%s is not what README.md says: %x", name, sum)
		}
		delete(sums, name)
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), "LICENSE")); err != nil {
			t.Errorf("%s has no license: %v", name, err)
		}
		return nil
	})
	if err != nil || len(sums) > 0 {
		t.Errorf("%v; not there: %v", err, sums)
	}
}
