package api

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/tallyman-dev/tallyman/server/store"
)

// page reads the paging of a request. Tokens are opaque to clients: a list's name and the key of its last entry.
func page(list string, size, defaultSize int32, token string) (store.Page, error) {
	p := store.Page{Size: int(size)}
	if size == 0 {
		p.Size = int(defaultSize)
	}
	if token == "" {
		return p, nil
	}
	key, err := openToken(list, token)
	if err != nil {
		return p, err
	}
	if p.After, err = strconv.ParseInt(key, 10, 64); err != nil || p.After < 0 {
		return p, badToken(list)
	}
	return p, nil
}

// nextPage returns the token for the page after one of got entries, "" after the last.
func nextPage(list string, p store.Page, got int, last int64) string {
	if got < p.Size {
		return ""
	}
	return sealToken(list, strconv.FormatInt(last, 10))
}

func sealToken(list, key string) string {
	if key == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(list + ":" + key))
}

func openToken(list, token string) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", badToken(list)
	}
	key, ok := strings.CutPrefix(string(raw), list+":")
	if !ok || key == "" {
		return "", badToken(list)
	}
	return key, nil
}

func badToken(list string) error {
	return invalid("page_token", "is not a token of a list of %s; begin with an empty one", list)
}
