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
	key, id, both := strings.Cut(key, ".")
	if p.After, err = strconv.ParseInt(key, 10, 64); err != nil || p.After < 0 {
		return p, badToken(list)
	}
	if both {
		if p.AfterID, err = strconv.ParseInt(id, 10, 64); err != nil || p.AfterID < 1 {
			return p, badToken(list)
		}
	}
	return p, nil
}

// nextPage returns the token for the page after one of got entries, "" after the last. lastID is given where entries share
// sort keys, else 0.
func nextPage(list string, p store.Page, got int, last, lastID int64) string {
	if got < p.Size {
		return ""
	}
	key := strconv.FormatInt(last, 10)
	if lastID != 0 {
		key += "." + strconv.FormatInt(lastID, 10)
	}
	return sealToken(list, key)
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
