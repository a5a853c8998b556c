package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed assets
var embedded embed.FS

// The pages. Each is the same frame, which the script fills by the path.
var pages = []string{"/{$}", "/jobs/{job_id}", "/upload", "/workers", "/statistics"}

// policy lets a page load and run what this server serves, and nothing else.
const policy = "default-src 'self'; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"

// asset is a file as it is sent.
type asset struct {
	kind       string // its type
	plain, gzd []byte
}

// handler serves the frame and the assets. It is safe for concurrent use.
type handler struct {
	frame  asset
	prefix string // of the assets' paths: it changes with any of them, so that browsers may keep them for ever
	assets map[string]asset
}

// Handle adds the dashboard to what is served: pages, for which a browser asks by their address, and the files they need.
func Handle(add func(pattern string, page bool, served http.HandlerFunc)) error {
	h, err := open()
	if err != nil {
		return fmt.Errorf("open the dashboard: %w", err)
	}
	for _, page := range pages {
		add("GET "+page, true, h.page)
	}
	add("GET /assets/{version}/{name...}", false, h.asset)
	return nil
}

func open() (*handler, error) {
	h := &handler{assets: map[string]asset{}}
	files, err := fs.Sub(embedded, "assets")
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	var frame string
	err = fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(text), text)
		if name == "frame.html" {
			frame = string(text)
			return nil
		}
		h.assets[name], err = pack(name, text)
		return err
	})
	if err != nil {
		return nil, err
	}
	h.prefix = "/assets/" + hex.EncodeToString(sum.Sum(nil))[:16]
	page, err := template.New("frame").Parse(frame)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := page.Execute(&text, struct{ Assets string }{h.prefix}); err != nil {
		return nil, err
	}
	h.frame, err = pack("frame.html", text.Bytes())
	return h, err
}

// pack compresses a file once for all who ask for it.
func pack(name string, text []byte) (asset, error) {
	a := asset{kind: mime.TypeByExtension(path.Ext(name)), plain: text}
	switch path.Ext(name) { // not what the host's tables say
	case ".js":
		a.kind = "text/javascript; charset=utf-8"
	case ".css":
		a.kind = "text/css; charset=utf-8"
	case ".html":
		a.kind = "text/html; charset=utf-8"
	case ".svg":
		a.kind = "image/svg+xml"
	case ".md", "":
		a.kind = "text/plain; charset=utf-8"
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return a, err
	}
	if _, err := w.Write(text); err != nil {
		return a, err
	}
	if err := w.Close(); err != nil {
		return a, err
	}
	if packed.Len() < len(text) {
		a.gzd = packed.Bytes()
	}
	return a, nil
}

func (h *handler) page(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	h.frame.send(w, r)
}

func (h *handler) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := h.assets[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if path.Join("/assets", r.PathValue("version")) == h.prefix {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	} else { // of a page that another version of this program served
		w.Header().Set("Cache-Control", "no-store")
	}
	a.send(w, r)
}

func (a asset) send(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", a.kind)
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Vary", "Accept-Encoding")
	text := a.plain
	if a.gzd != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		header.Set("Content-Encoding", "gzip")
		text = a.gzd
	}
	_, _ = w.Write(text) // who asked may have gone
}
