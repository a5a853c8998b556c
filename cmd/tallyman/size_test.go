package main

import (
	"strings"
	"testing"
)

func TestSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]size{
		"0": 0, "8388608": 8 << 20, "8MiB": 8 << 20, "8M": 8 << 20, "8m": 8 << 20, "8 MiB": 8 << 20, "8MB": 8_000_000,
		"1.5k": 1536, "1.5KB": 1500, "2GiB": 2 << 30, "1T": 1 << 40, "17B": 17, "-1": -1, "9223372036854775807": 1<<63 - 1,
	} {
		var got size
		if err := got.Set(text); err != nil || got != want {
			t.Errorf("%q: %d, error %v; want %d", text, got, err, want)
		}
		var again size
		if err := again.Set(got.String()); err != nil || again != got {
			t.Errorf("%q: %q is not read again as %d: %d, %v", text, got.String(), got, again, err)
		}
	}
	for _, text := range []string{"", "M", "8X", "8MiBs", "8MM", "0.3", "1.0001k", "9000000T", "1e3", "∞"} {
		var got size
		if err := got.Set(text); err == nil {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
}

// TestSizesOnTheCommandLine sets limits with units, and gets those of the error back in words.
func TestSizesOnTheCommandLine(t *testing.T) {
	t.Parallel()
	r := must(t, exitUsage, "run", "x.jsonl", "--batch-bytes", "100Q")
	if want := "such as 8388608, 8MiB, 100M or 1.5G"; !strings.Contains(r.stderr, want) {
		t.Errorf("no %q in %s", want, r.stderr)
	}
	if r := must(t, exitUsage, "run", "x.jsonl", "--max-item-bytes", "1G"); !strings.Contains(r.stderr, "max-item-bytes is 1073741824") {
		t.Errorf("the limit is not named: %s", r.stderr)
	}
}
