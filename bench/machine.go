package bench

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Machine is what ran a bench, as far as it can be found out.
type Machine struct {
	CPU    string  `json:"cpu,omitempty"`
	Cores  int     `json:"cores"`
	System string  `json:"system"`
	Go     string  `json:"go"`
	Load   float64 `json:"load,omitempty"` // average of the minute before, of what else ran
}

// ThisMachine describes the machine as it is now.
func ThisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan() && m.CPU == ""; {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
			}
		}
	}
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		if first, _, ok := strings.Cut(string(data), " "); ok {
			m.Load, _ = strconv.ParseFloat(first, 64) // 0 is as good as unknown
		}
	}
	return m
}
