package rest

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
)

var (
	//go:embed openapi.swagger.json
	generated []byte // from the protocol
	//go:embed streams.swagger.json
	streams []byte // of the streams, by hand
	//go:embed api.html
	apiPage string
	//go:embed api.css
	apiStyle []byte
)

// description tells what the API can do, for programs and for people.
type description struct {
	json []byte // OpenAPI 2
	page []byte // HTML
}

// openAPI is as much of an OpenAPI document as is needed to merge and to show it.
type openAPI struct {
	Swagger     string                          `json:"swagger"`
	Info        map[string]string               `json:"info"`
	Consumes    []string                        `json:"consumes"`
	Produces    []string                        `json:"produces"`
	Paths       map[string]map[string]operation `json:"paths"`
	Definitions json.RawMessage                 `json:"definitions"`
}

type operation struct {
	Summary     string          `json:"summary"`
	OperationID string          `json:"operationId"`
	Consumes    []string        `json:"consumes,omitempty"`
	Produces    []string        `json:"produces,omitempty"`
	Parameters  []parameter     `json:"parameters,omitempty"`
	Responses   json.RawMessage `json:"responses"`
	Tags        []string        `json:"tags,omitempty"`
}

type parameter struct {
	Name             string          `json:"name"`
	In               string          `json:"in"`
	Required         bool            `json:"required"`
	Type             string          `json:"type,omitempty"`
	Format           string          `json:"format,omitempty"`
	Description      string          `json:"description,omitempty"`
	Items            json.RawMessage `json:"items,omitempty"`
	CollectionFormat string          `json:"collectionFormat,omitempty"`
	Schema           json.RawMessage `json:"schema,omitempty"`
}

// call is one line of the page.
type call struct {
	Method, Path string
	operation
}

// describe makes the description from what was generated and what was written.
func describe() (*description, error) {
	var api, more openAPI
	if err := json.Unmarshal(generated, &api); err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	if err := json.Unmarshal(streams, &more); err != nil {
		return nil, fmt.Errorf("describe the streams of the API: %w", err)
	}
	api.Info = map[string]string{"title": "Tallyman", "version": "v1"}
	for path, operations := range more.Paths {
		if api.Paths[path] != nil {
			return nil, fmt.Errorf("describe the API: %s is both generated and written", path)
		}
		api.Paths[path] = operations
	}
	var d description
	var err error
	if d.json, err = json.Marshal(api); err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	var calls []call
	for path, operations := range api.Paths {
		for method, o := range operations {
			calls = append(calls, call{strings.ToUpper(method), path, o})
		}
	}
	slices.SortFunc(calls, func(a, b call) int {
		return cmp.Or(cmp.Compare(area(a.Path), area(b.Path)), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
	page, err := template.New("api").Parse(apiPage)
	if err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	var text bytes.Buffer
	if err := page.Execute(&text, calls); err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	d.page = text.Bytes()
	return &d, nil
}

// area orders the paths of the page: what everybody begins with comes first.
func area(path string) int {
	first := []string{"/v1/uploads", "/v1/jobs", "/v1/batches", "/v1/statistics", "/v1/workers", "/v1/whoami"}
	return slices.IndexFunc(first, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
}

func (d *description) serveJSON(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(d.json) // who asked may have gone
}

func (d *description) servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(d.page) // who asked may have gone
}

func (d *description) serveStyle(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(apiStyle) // who asked may have gone
}
