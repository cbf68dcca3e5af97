// Runs runc where this process may not hand out every capability.
//
// Privileged containers ask for all capabilities, for resource limits above the present ones and for negative OOM scores. All three need
// CAP_SYS_RESOURCE. On a machine whose own bounding set lacks it (virtual machines and CI runners that are themselves confined), runc then refuses
// to start the container. This program stands in runc's place: where the capability is missing, it takes those requests out of the container's
// configuration; where it is there, it touches nothing. Then it becomes the real runc, with the same arguments.
//
// The same binary serves the docker daemon on the host (as its default runtime) and containerd inside of a kind node (as /usr/local/sbin/runc).
// The real runc is the first one of that name in PATH, or in the usual folders, that is not this program.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Where runc is looked for after PATH: a daemon may have been started with a short one.
var usualFolders = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "runc-wrapper: %v\n", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Errorf("reading the own capabilities: %w", err)
	}
	if err := prepare(string(status), arguments); err != nil {
		return err
	}
	runc, err := realRunc()
	if err != nil {
		return err
	}
	err = syscall.Exec(runc, append([]string{runc}, arguments...), os.Environ())
	return fmt.Errorf("starting `%s`: %w", runc, err)
}

// prepare changes the container's configuration if, by the text of /proc/self/status, the capability is missing here.
func prepare(status string, arguments []string) error {
	holds, err := boundingSetHoldsSysResource(status)
	if err != nil || holds {
		return err
	}
	file, process := requestFile(arguments)
	if file == "" {
		return nil
	}
	return mend(file, process)
}

// realRunc finds the runc that this program stands in for.
func realRunc() (string, error) {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("finding out what this program is: %w", err)
	}
	folders := append(filepath.SplitList(os.Getenv("PATH")), usualFolders...)
	for _, folder := range folders {
		if !filepath.IsAbs(folder) {
			continue
		}
		candidate := filepath.Join(folder, "runc")
		found, err := os.Stat(candidate)
		if err != nil || found.IsDir() || found.Mode()&0o111 == 0 || os.SameFile(self, found) || isCopy(self, found, candidate) {
			continue
		}
		return candidate, nil
	}
	return "", fmt.Errorf("no runc in %s; install the package `runc`", strings.Join(folders, ":"))
}

// isCopy tells whether the candidate is this program under another inode, so that two copies never call each other for ever.
func isCopy(self, found os.FileInfo, candidate string) bool {
	if self.Size() != found.Size() {
		return false
	}
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return false
	}
	other, err := os.ReadFile(candidate)
	return err == nil && string(own) == string(other)
}

// errNoBoundingSet means that /proc/self/status has no CapBnd line; guessing would either break privileged containers or weaken them.
var errNoBoundingSet = errors.New("reading the own capabilities: /proc/self/status has no valid CapBnd line")
