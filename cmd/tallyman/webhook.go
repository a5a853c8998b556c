package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/tallyman-dev/tallyman/server/webhook"
)

// secretVariable holds the secret of the webhook where it is in no file.
const secretVariable = environmentPrefix + "WEBHOOK_SECRET"

// webhooking is what the flags about webhooks say.
type webhooking struct {
	url, file    string
	maxCrashRate rate
}

func (w *webhooking) flags(flags *pflag.FlagSet) {
	w.maxCrashRate = 0.05
	flags.StringVar(&w.url, "webhook-url", "", "address that is told by HTTP, signed, when a job has ended and when too much crashes")
	flags.StringVar(&w.file, "webhook-secret-file", "", "file with the secret by which that is signed (default: what "+secretVariable+" has)")
	flags.Var(&w.maxCrashRate, "webhook-max-crash-rate", "crash rate of the last hour above which it is told; 0 for never")
}

// config reads the secret.
func (w *webhooking) config(environment func(string) string) (webhook.Config, error) {
	c := webhook.Config{URL: w.url, MaxCrashRate: float64(w.maxCrashRate)}
	switch {
	case w.url == "" && w.file != "":
		return c, usageError("--webhook-secret-file is for a --webhook-url")
	case w.url == "":
		return c, nil
	case w.file == "":
		c.Secret = []byte(environment(secretVariable))
		if len(c.Secret) == 0 {
			return c, usageError("--webhook-url needs a secret: name its file by --webhook-secret-file, or set %s", secretVariable)
		}
		return c, nil
	}
	secret, err := os.ReadFile(w.file)
	if err != nil {
		return c, fmt.Errorf("read the secret of the webhook: %w", err)
	}
	c.Secret = bytes.TrimRight(secret, "\r\n")
	return c, nil
}
