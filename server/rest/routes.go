package rest

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"

	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/api"
)

// Route is one thing that is served, and to whom. What it serves finds out by access.By of the request's context who asked.
type Route struct {
	Pattern string // of http.ServeMux
	Rule    access.Rule
	http.Handler
}

// rpc returns the rule of the RPC that a route stands for.
func rpc(method string) access.Rule { return access.Of(method) }

// admitted serves a route to those whom its rule permits.
func (h *handler) admitted(route Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := h.cfg.Admit(r.Context(), shown(r))
		switch {
		case err != nil && route.Rule.Open:
			who = access.Identity{Name: address(r)}
		case err != nil && h.cfg.Asks && asksForPage(r):
			toLogin(w, r)
			return
		case err != nil:
			writeError(w, api.Refuse(r.Context(), err))
			return
		case !route.Rule.Permits(who):
			writeError(w, api.Refuse(r.Context(), api.Denied(who, route.Rule, r.Method+" "+r.URL.Path)))
			return
		}
		ctx := access.With(r.Context(), who)
		if who.While != nil { // what is streamed ends when the token is of no use any more
			bounded, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(who.While, cancel)()
			ctx = bounded
		}
		if h.cfg.Asks && !route.Rule.Open {
			w.Header().Set("Cache-Control", "no-store")
		}
		route.ServeHTTP(w, r.WithContext(ctx))
	})
}

// shown returns what a request shows of who makes it.
func shown(r *http.Request) access.Credential {
	c := access.Credential{Address: address(r)}
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "bearer") {
		c.Token = strings.TrimSpace(token)
	} else if kept, err := r.Cookie(cookieName(r)); err == nil {
		c.Token = kept.Value
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		c.Certificate = r.TLS.VerifiedChains[0][0]
	}
	return c
}

func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// guarded adds to every answer what keeps a browser from making something else of it: scripts, styles and connections are
// those of this origin, nothing is inline, nobody frames it, and types are as they are said to be.
func guarded(served http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "+
			"connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		served.ServeHTTP(w, r)
	})
}

// whoami says who asks, for pages that show what he may do.
func (h *handler) whoami(w http.ResponseWriter, r *http.Request) {
	who := access.By(r.Context())
	text, err := json.Marshal(struct {
		Name     string      `json:"name"`
		Role     access.Role `json:"role"`
		Projects []string    `json:"projects"` // empty for all
		Known    bool        `json:"known"`    // false where nobody is asked
	}{who.Name, who.Role, append([]string{}, who.Projects...), who.Key != ""})
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, text)
}
