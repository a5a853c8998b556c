package source

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "",
		" a \n\tb\x00\x1b[31mc\u202e d": "a b [31mc d",
		"a\xffb":                        "ab",
		strings.Repeat("é", 150):        strings.Repeat("é", 150),
		strings.Repeat("é", 151):        strings.Repeat("é", 150) + "…",
		"x" + strings.Repeat("é", 150):  "x" + strings.Repeat("é", 149) + "…",
		strings.Repeat("𝄞", 1000):       strings.Repeat("𝄞", 75) + "…",
	} {
		if got := words(text); got != want {
			t.Errorf("words(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, test := range []struct {
		text, id string
		want     bool
	}{
		{"no document 12", "12", true}, {"PMC:12, 13", "12", true}, {"212 and 120", "12", false}, {"120 or 12", "12", true},
		{"éab", "ab", false}, {"ab", "ab", true}, {"", "ab", false}, {"10.1/x is gone", "10.1/x", true},
	} {
		if got := names(test.text, test.id); got != test.want {
			t.Errorf("names(%q, %q) = %v", test.text, test.id, got)
		}
	}
}

// FuzzDecode feeds answers to the decoder: what it returns was asked for and can be stored.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"docs":[{"sourcedb":"PMC","sourceid":"PMC1","text":"é𝄞","source_url":"https://x"}],"messages":["no 2"]}`,
		`{"messages":{"2":["gone"]},"docs":null}`,
		`{"docs":[{"sourceid":1,"text":"a\u0000b"},{"sourceid":2,"text":" "},{"sourceid":2}]}`,
		`{"docs":[{"sourceid":"1","text":"x"},{"sourceid":"1","text":"y"}]} `,
		`{"docs":[{"sourcedb":"pmc","sourceid":" pmc1 ","text":"\ud83d\ude00"}]}{}`,
		`{"docs":[{"sourceid":"1","text":"\ud800"}]}`, "\xef\xbb\xbf{}", `[]`, `{"docs":[[]]}`, ``, `{"docs":[{"text":{"docs":[]}}]`,
	} {
		f.Add([]byte(seed))
	}
	asked := map[string]bool{"1": true, "2": true, "é": true}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := decode(strings.NewReader(string(data)), "PMC", asked)
		if err != nil {
			if len(a.docs)+len(a.messages) > 0 {
				t.Errorf("an answer that cannot be used has %v", a)
			}
			return
		}
		for id, doc := range a.docs {
			switch {
			case !asked[id]:
				t.Errorf("%q was not asked for", id)
			case doc.Text == "" && (doc.Reason == "" || !doc.Refused):
				t.Errorf("%q has neither text nor reason", id)
			case doc.Text != "" && (strings.TrimSpace(doc.Text) == "" || doc.Reason != "" || doc.Refused):
				t.Errorf("%q is %+v", id, doc)
			case !utf8.ValidString(doc.Text) || strings.ContainsRune(doc.Text, 0) || doc.Length != utf8.RuneCountInString(doc.Text):
				t.Errorf("%q cannot be stored: %+v", id, doc)
			case len(doc.Text) > len(data):
				t.Errorf("%q is larger than the answer", id)
			}
		}
		for _, m := range a.messages {
			if m == "" || len(m) > maxWords+len("…") || !utf8.ValidString(m) {
				t.Errorf("message %q", m)
			}
		}
	})
}
