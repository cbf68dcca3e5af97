package main

import (
	"strconv"
	"strings"
)

// The bit of CAP_SYS_RESOURCE in linux/capability.h.
const sysResourceBit = 24

// boundingSetHoldsSysResource reads the text of /proc/self/status.
func boundingSetHoldsSysResource(status string) (bool, error) {
	for line := range strings.Lines(status) {
		value, is := strings.CutPrefix(line, "CapBnd:")
		if !is {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return false, errNoBoundingSet
		}
		return set&(1<<sysResourceBit) != 0, nil
	}
	return false, errNoBoundingSet
}
