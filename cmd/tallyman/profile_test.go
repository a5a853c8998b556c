package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestProfilesAreForThisHost(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "6060", "example.org:0"} {
		stop, err := serveProfiles(t.Context(), address)
		if err == nil {
			t.Errorf("profiles are served at %s", address)
			if err := stop(); err != nil {
				t.Error(err)
			}
		} else if exitCode(err) != exitUsage {
			t.Errorf("%s: %v, want it to be called a wrong usage", address, err)
		}
	}
}

func TestProfiles(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	stop, err := serveProfiles(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.Get("http://" + address + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || !strings.Contains(string(body), "TestProfiles") {
		t.Errorf("the profile does not show this test, %v: %.200s", err, body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
