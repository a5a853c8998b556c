// Command submit sends a file to a coordinator and follows its job to the end:
//
//	submit ADDRESS PROJECT FILE
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/tallyman-dev/tallyman/client"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: submit ADDRESS PROJECT FILE")
		os.Exit(64)
	}
	if err := submit(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		slog.New(slog.NewTextHandler(os.Stderr, nil)).Error("submit failed", "error", err)
		os.Exit(1)
	}
}

func submit(ctx context.Context, address, project, path string) error {
	c, err := client.New(client.Config{Address: address})
	if err != nil {
		return err
	}
	defer c.Close()
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	sent, err := c.Upload(ctx, file, client.Upload{Project: project, FileName: path})
	if err != nil {
		return err
	}
	for job, err := range c.Watch(ctx, sent.JobID) {
		if err != nil {
			return err
		}
		fmt.Println(job.GetState(), job.GetProgress().GetItemsEnded(), "of", job.GetProgress().GetItemsTotal(), "items")
	}
	return nil
}
