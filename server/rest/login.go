package rest

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/grpc/status"

	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/api"
)

//go:embed login.html
var loginText string

var loginPage = template.Must(template.New("login").Parse(loginText))

// loginMost bounds the form, in bytes.
const loginMost = 16 << 10

// login serves the page that asks for a token, and takes it: as a cookie that scripts cannot read and that goes with no
// request that another site makes. It holds the token itself, so that every coordinator knows it, and none remembers who is
// logged in; it is of no use any more as soon as the token is not.
func (h *handler) login(w http.ResponseWriter, r *http.Request) {
	if !h.cfg.Asks {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	if r.Method != http.MethodPost {
		writeLogin(w, http.StatusOK, r.URL.Query().Get("next"), "")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, loginMost)
	if err := r.ParseForm(); err != nil {
		writeLogin(w, http.StatusBadRequest, "", "The form could not be read.")
		return
	}
	next, token := r.PostForm.Get("next"), strings.TrimSpace(r.PostForm.Get("token"))
	if token == "" {
		writeLogin(w, http.StatusUnauthorized, next, "A token is needed.")
		return
	}
	if _, err := h.cfg.Admit(r.Context(), access.Credential{Address: address(r), Token: token}); err != nil {
		refusal := status.Convert(api.Refuse(r.Context(), err))
		writeLogin(w, httpStatus(refusal.Code()), next, refusal.Message())
		return
	}
	http.SetCookie(w, cookie(r, token))
	http.Redirect(w, r, local(next), http.StatusSeeOther)
}

func writeLogin(w http.ResponseWriter, code int, next, problem string) {
	var page bytes.Buffer
	if err := loginPage.Execute(&page, struct{ Next, Problem string }{local(next), problem}); err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(page.Bytes()) // who asked may have gone
}

// logout forgets who is logged in.
func (h *handler) logout(w http.ResponseWriter, r *http.Request) {
	gone := cookie(r, "")
	gone.MaxAge = -1
	http.SetCookie(w, gone)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// local returns a path of this server to go on to: "/" instead of anything else.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") ||
		strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

// encrypted reports whether a browser speaks TLS, with this server or with a proxy before it.
func encrypted(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
}

// cookieName is that of the cookie with the token; with TLS one that browsers take from this host only, and over TLS.
func cookieName(r *http.Request) string {
	if encrypted(r) {
		return "__Host-tallyman"
	}
	return "tallyman"
}

func cookie(r *http.Request, token string) *http.Cookie {
	return &http.Cookie{
		Name: cookieName(r), Value: token, Path: "/", HttpOnly: true, Secure: encrypted(r), SameSite: http.SameSiteStrictMode,
	}
}

// asksForPage reports whether a browser asks for a page to show.
func asksForPage(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// toLogin sends a browser to the page that asks for a token, and back.
func toLogin(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
}
