package main

import (
	"path/filepath"
	"strings"
)

// The options of runc that take a value, which is the next word unless it is joined with `=`. All others are switches.
var (
	globalOptionsWithValue = options("log", "log-format", "root", "criu", "rootless")
	createOptionsWithValue = options("bundle", "b", "console-socket", "pidfd-socket", "pid-file", "preserve-fds")
	execOptionsWithValue   = options("console-socket", "pidfd-socket", "cwd", "env", "e", "user", "u", "additional-gids", "g", "process", "p", "pid-file",
		"process-label", "apparmor", "cap", "c", "preserve-fds", "cgroup")
)

func options(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// requestFile names the file that tells runc what to start, and whether it is a bare process (exec) or a whole configuration (create, run).
// The name is empty for every call that starts nothing.
func requestFile(arguments []string) (file string, process bool) {
	_, rest := parse(arguments, globalOptionsWithValue)
	if len(rest) == 0 {
		return "", false
	}
	verb, rest := rest[0], rest[1:]
	switch verb {
	case "create", "run":
		found, _ := parse(rest, createOptionsWithValue)
		bundle := "."
		for _, name := range []string{"b", "bundle"} {
			if value := found[name]; value != "" {
				bundle = value
			}
		}
		return filepath.Join(bundle, "config.json"), false
	case "exec":
		found, _ := parse(rest, execOptionsWithValue)
		for _, name := range []string{"process", "p"} {
			if value := found[name]; value != "" {
				return value, true
			}
		}
	}
	return "", false
}

// parse reads options as runc's own parser (Go's flag package) does: one dash or two, a value joined by `=` or following, up to the first word that
// is no option or up to `--`. It returns the values and the words that are left.
func parse(arguments []string, withValue map[string]bool) (values map[string]string, rest []string) {
	values = map[string]string{}
	for i := 0; i < len(arguments); i++ {
		word := arguments[i]
		if word == "--" {
			return values, arguments[i+1:]
		}
		if len(word) < 2 || word[0] != '-' {
			return values, arguments[i:]
		}
		name, value, joined := strings.Cut(strings.TrimPrefix(word[1:], "-"), "=")
		if !withValue[name] {
			continue
		}
		if !joined {
			i++
			if i == len(arguments) {
				break
			}
			value = arguments[i]
		}
		values[name] = value
	}
	return values, nil
}
