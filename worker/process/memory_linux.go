package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// watchesMemory says whether Config.MaxMemory can be kept.
const watchesMemory = true

// memoryOf returns what the processes of some groups hold in memory now, in bytes, by group. What several processes of a
// group share is counted for each.
func memoryOf(groups []int) (map[int]int64, error) {
	held := make(map[int]int64, len(groups))
	for _, g := range groups {
		held[g] = 0
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("measure memory: %w", err)
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("measure memory: %w", err)
	}
	page := int64(os.Getpagesize())
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended
		}
		group, pages := parseStat(stat)
		if _, ok := held[group]; ok {
			held[group] += pages * page
		}
	}
	return held, nil
}

// parseStat returns the process group and the pages in memory from a line of /proc/PID/stat; 0 from what is none.
func parseStat(stat []byte) (group int, pages int64) {
	// The name of the program is in brackets and may have any in it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 22 {
		return 0, 0
	}
	group, _ = strconv.Atoi(string(fields[2]))
	pages, _ = strconv.ParseInt(string(fields[21]), 10, 64)
	return group, pages
}
