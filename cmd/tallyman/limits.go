package main

import (
	"github.com/spf13/pflag"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/server"
	"github.com/tallyman-dev/tallyman/server/api"
	"github.com/tallyman-dev/tallyman/server/ingest"
)

// The flags of limits have the names that errors give the limits by.

// readLimits are those of what is read.
func readLimits(flags *pflag.FlagSet, reader *ingest.ReaderConfig) {
	sizeVar(flags, &reader.MaxItem, ingest.SettingMaxItem, "longest item, at most 512 MiB; longer ones are rejected (default 64 MiB)")
	sizeVar(flags, &reader.MaxBytes, ingest.SettingMaxBytes, "longest upload, after decompression (default 1 TiB)")
	flags.Int64Var(&reader.MaxRatio, ingest.SettingMaxRatio, 0,
		"times a compressed file may be larger when it is decompressed, from 64 MiB on (default 250)")
	flags.IntVar(&reader.MaxDepth, ingest.SettingMaxDepth, 0, "times a file may be compressed one in another (default 2)")
	sizeVar(flags, &reader.MaxWindow, ingest.SettingMaxWindow, "largest window of a zstd file, which is memory (default 128 MiB)")
	flags.IntVar(&reader.MaxArchives, ingest.SettingMaxArchives, 0, "archives one in another (default 8)")
	flags.Int64Var(&reader.MaxEntries, ingest.SettingMaxEntries, 0, "entries of all archives of an upload (default 10000000)")
	flags.Int64Var(&reader.MaxDirectory, ingest.SettingMaxDirectory, 0,
		"directory of a ZIP archive, which is kept in memory (default 16 MiB)")
	flags.Int64Var(&reader.MaxSpool, ingest.SettingMaxSpool, 0,
		"of ZIP archives of an upload in temporary files at a time (default 8 GiB)")
	flags.StringVar(&reader.SpoolDir, "spool-dir", "", "folder of these files (default: the data folder, or that of the system)")
}

// serverLimits are those of a coordinator that others reach.
func serverLimits(flags *pflag.FlagSet, config *server.Config) {
	readLimits(flags, &config.Reader)
	flags.IntVar(&config.MaxOpenUploads, api.SettingMaxOpenUploads, 0,
		"uploads that one client, known by its address, may have open at once; below 0 no limit (default 64)")
	flags.Float64Var(&config.RateLimit.PerSecond, api.SettingRateLimit, 0,
		"calls a second of one client, known by its address; below 0 no limit (default 10000)")
	runningLimits(flags, &config.MaxRunningPerProject)
}

// runningPerProject is the name of the flag.
const runningPerProject = "max-running-per-project"

// runningLimits are those of what runs at the same time.
func runningLimits(flags *pflag.FlagSet, perProject *int) {
	flags.IntVar(perProject, runningPerProject, 0,
		"batches of one project that run at the same time at most; the same at all coordinators (default: no limit)")
}

// workLimits are those of a worker.
func workLimits(flags *pflag.FlagSet, maxPayload *int64) {
	sizeVar(flags, maxPayload, payload.LimitSetting, "that a batch may unpack to in memory (default 256 MiB)")
}
