package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

const sysResource = "CAP_SYS_RESOURCE"

// object keeps what it does not know byte for byte, so that no number loses digits and no field is dropped.
type object = map[string]json.RawMessage

// mend rewrites the file without what needs CAP_SYS_RESOURCE. A file that asks for none of it is left as it is.
func mend(file string, process bool) error {
	before, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the container's configuration: %w", err)
	}
	after, err := withoutSysResource(before, process)
	if err != nil {
		return fmt.Errorf("changing `%s`: %w", file, err)
	}
	if bytes.Equal(before, after) {
		return nil
	}
	if err := replace(file, after); err != nil {
		return fmt.Errorf("changing `%s`: %w", file, err)
	}
	return nil
}

// withoutSysResource is the pure part of mend.
func withoutSysResource(text []byte, process bool) ([]byte, error) {
	if process {
		return mendProcess(text)
	}
	var config object
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, err
	}
	before, is := config["process"]
	if !is || string(before) == "null" {
		return text, nil
	}
	after, err := mendProcess(before)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(before, after) {
		return text, nil
	}
	config["process"] = after
	return json.Marshal(config)
}

func mendProcess(text []byte) ([]byte, error) {
	var process object
	if err := json.Unmarshal(text, &process); err != nil {
		return nil, err
	}
	changed := false
	if _, is := process["rlimits"]; is {
		delete(process, "rlimits")
		changed = true
	}
	if score, is := process["oomScoreAdj"]; is {
		var value int
		if err := json.Unmarshal(score, &value); err != nil {
			return nil, fmt.Errorf("oomScoreAdj: %w", err)
		}
		if value < 0 {
			delete(process, "oomScoreAdj")
			changed = true
		}
	}
	if sets, is := process["capabilities"]; is && string(sets) != "null" {
		mended, different, err := mendCapabilities(sets)
		if err != nil {
			return nil, fmt.Errorf("capabilities: %w", err)
		}
		if different {
			process["capabilities"] = mended
			changed = true
		}
	}
	if !changed {
		return text, nil
	}
	return json.Marshal(process)
}

// mendCapabilities takes the capability out of every set: bounding, effective, inheritable, permitted, ambient.
func mendCapabilities(text []byte) (mended []byte, changed bool, err error) {
	var sets map[string][]string
	if err := json.Unmarshal(text, &sets); err != nil {
		return nil, false, err
	}
	for name, set := range sets {
		if slices.Contains(set, sysResource) {
			sets[name] = slices.DeleteFunc(set, func(capability string) bool { return capability == sysResource })
			changed = true
		}
	}
	mended, err = json.Marshal(sets)
	return mended, changed, err
}

// replace writes beside the file and renames, so that nobody reads half of it.
func replace(file string, text []byte) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(file), ".runc-wrapper-*")
	if err != nil {
		return err
	}
	defer os.Remove(next.Name())
	if _, err := next.Write(text); err != nil {
		next.Close()
		return err
	}
	if err := next.Chmod(info.Mode().Perm()); err != nil {
		next.Close()
		return err
	}
	if err := next.Close(); err != nil {
		return err
	}
	return os.Rename(next.Name(), file)
}
