package main

import (
	"errors"
	"math"
	"regexp"
	"strconv"

	"github.com/spf13/pflag"
)

// size is the value of a flag for a number of bytes, with a unit or without: 8MiB and 8M are 8 times 1,048,576 bytes, 8MB
// are 8,000,000.
type size int64

var _ pflag.Value = (*size)(nil)

var (
	sizePattern = regexp.MustCompile(`(?i)^(-?\d+(?:\.\d+)?) ?(?:([kmgt])(i?b)?|b)?$`)
	errSize     = errors.New("want a number of bytes, such as 8388608, 8MiB, 100M or 1.5G")
)

// exponents of the units.
var exponents = map[string]float64{"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "K": 1, "M": 2, "G": 3, "T": 4}

// Set implements pflag.Value.
func (s *size) Set(text string) error {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil { // exact, whatever its size
		*s = size(n)
		return nil
	}
	match := sizePattern.FindStringSubmatch(text)
	if match == nil {
		return errSize
	}
	n, err := strconv.ParseFloat(match[1], 64)
	base := 1024.0
	if len(match[3]) == 1 { // kB, not kiB
		base = 1000
	}
	n *= math.Pow(base, exponents[match[2]])
	if err != nil || math.Abs(n) >= math.MaxInt64 || n != math.Trunc(n) {
		return errSize
	}
	*s = size(n)
	return nil
}

// String implements pflag.Value.
func (s *size) String() string { return strconv.FormatInt(int64(*s), 10) }

// Type implements pflag.Value.
func (s *size) Type() string { return "bytes" }

// sizeVar adds a flag for a number of bytes, 0 unless it is given.
func sizeVar(flags *pflag.FlagSet, into *int64, name, usage string) {
	flags.Var((*size)(into), name, usage)
}
