package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const config = `{"ociVersion":"1.0.2","process":{"args":["sh"],"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"],"effective":["CAP_SYS_RESOURCE"],` +
	`"permitted":["CAP_CHOWN"]},"rlimits":[{"type":"RLIMIT_NOFILE","hard":1048576,"soft":1048576}],"oomScoreAdj":-998},` +
	`"linux":{"resources":{"memory":{"limit":9007199254740993}}}}`

func TestTheBoundingSetIsRead(t *testing.T) {
	for text, want := range map[string]bool{
		"Name:\tx\nCapBnd:\t000001ffffffffff\n":                              true,
		"CapEff:\t000001ffffffffff\nCapBnd:\t000001fffeffffff\nCapAmb:\t0\n": false,
		"CapBnd:\t0000000001000000\n":                                        true,
		"CapBnd:\t0000000000000000\n":                                        false,
	} {
		got, err := boundingSetHoldsSysResource(text)
		if err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "CapEff:\t0\n", "CapBnd:\tno\n"} {
		if _, err := boundingSetHoldsSysResource(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestTheFileIsFoundInEveryFormOfTheCall(t *testing.T) {
	for _, test := range []struct {
		call    string
		file    string
		process bool
	}{
		{"create --bundle /b id", "/b/config.json", false},
		{"create --bundle=/b id", "/b/config.json", false},
		{"create -b /b id", "/b/config.json", false},
		{"create -b=/b id", "/b/config.json", false},
		{"create -bundle /b id", "/b/config.json", false},
		{"create id", "config.json", false},
		{"create --no-pivot --pid-file /p --bundle /b id", "/b/config.json", false},
		{"create --pid-file --bundle id", "config.json", false},
		{"run --bundle /b id", "/b/config.json", false},
		{"run -d --keep -b /b id", "/b/config.json", false},
		{"run id --bundle /b", "config.json", false},
		{"run -- --bundle", "config.json", false},
		{"--root /r --log /l --log-format json --systemd-cgroup create --bundle /b --pid-file /p id", "/b/config.json", false},
		{"--root=/r --debug run -b=/b id", "/b/config.json", false},
		{"--root create exec --process /p id", "/p", true},
		{"exec --process /p id", "/p", true},
		{"exec --process=/p id", "/p", true},
		{"exec -p /p id", "/p", true},
		{"exec -p=/p --detach id", "/p", true},
		{"--log /l exec --tty --console-socket /s --process /p --detach --pid-file /x id", "/p", true},
		{"exec id sh --process /p", "", false},
		{"exec -e A=1 --env B=2 id sh", "", false},
		{"start id", "", false},
		{"delete --force id", "", false},
		{"--root /r state id", "", false},
		{"--version", "", false},
		{"", "", false},
		{"create --bundle", "config.json", false},
	} {
		file, process := requestFile(strings.Fields(test.call))
		if file != test.file || process != test.process {
			t.Errorf("runc %s: got %q, %v; want %q, %v", test.call, file, process, test.file, test.process)
		}
	}
}

func TestWhatNeedsTheCapabilityIsTakenOut(t *testing.T) {
	mended, err := withoutSysResource([]byte(config), false)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"ociVersion":"1.0.2","process":{"args":["sh"],"capabilities":{"bounding":["CAP_CHOWN"],"effective":[],"permitted":["CAP_CHOWN"]}},` +
		`"linux":{"resources":{"memory":{"limit":9007199254740993}}}}`
	same(t, mended, want)
	if !strings.Contains(string(mended), "9007199254740993") {
		t.Errorf("a large number lost digits: %s", mended)
	}

	process := `{"args":["sh"],"oomScoreAdj":-1,"rlimits":[],"capabilities":{"ambient":["CAP_SYS_RESOURCE"]}}`
	mended, err = withoutSysResource([]byte(process), true)
	if err != nil {
		t.Fatal(err)
	}
	same(t, mended, `{"args":["sh"],"capabilities":{"ambient":[]}}`)
}

func TestWhatDoesNotNeedTheCapabilityIsLeftByteForByte(t *testing.T) {
	for _, text := range []string{
		`{ "process" : {"oomScoreAdj": 1000, "capabilities": {"bounding": ["CAP_CHOWN"]}} }`,
		`{"process": {"oomScoreAdj": 0, "capabilities": null}}`,
		`{"process": null, "root": {}}`,
		`{"root": {}}`,
	} {
		got, err := withoutSysResource([]byte(text), false)
		if err != nil || string(got) != text {
			t.Errorf("%s became %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "[]", `{"process":{"oomScoreAdj":"x"}}`, `{"process":{"capabilities":[]}}`} {
		if _, err := withoutSysResource([]byte(text), false); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestNothingIsTouchedWhereTheCapabilityIsThere(t *testing.T) {
	const with, without = "CapBnd:\t000001ffffffffff\n", "CapBnd:\t000001fffeffffff\n"
	bundle := t.TempDir()
	t.Chdir(bundle)
	file := filepath.Join(bundle, "config.json")
	process := filepath.Join(bundle, "process.json")
	for _, test := range []struct{ call, file, text string }{
		{"create --bundle=" + bundle + " id", file, config},
		{"run -b " + bundle + " id", file, config},
		{"create id", file, config},
		{"exec --process " + process + " id", process, `{"oomScoreAdj":-5}`},
	} {
		write(t, test.file, test.text, 0o600)
		if err := prepare(with, strings.Fields(test.call)); err != nil {
			t.Errorf("runc %s, with it: %v", test.call, err)
		}
		if text, err := os.ReadFile(test.file); err != nil || string(text) != test.text {
			t.Errorf("runc %s, with it: the file became %s, %v", test.call, text, err)
		}
		if err := prepare(without, strings.Fields(test.call)); err != nil {
			t.Errorf("runc %s, without it: %v", test.call, err)
		}
		if text, err := os.ReadFile(test.file); err != nil || string(text) == test.text {
			t.Errorf("runc %s, without it: the file stayed %s, %v", test.call, text, err)
		}
	}
	if err := prepare(without, []string{"create", "--bundle", "/nowhere", "id"}); err == nil {
		t.Error("a bundle that is not there is no error")
	}
	if err := prepare("", []string{"create", "id"}); err == nil {
		t.Error("an unknown bounding set is no error")
	}
}

// The whole program, started as docker starts it: with a runc in PATH that only tells how it was called.
func TestTheProgramMendsOnlyWhereTheCapabilityIsMissing(t *testing.T) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	holds, err := boundingSetHoldsSysResource(string(status))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	wrapper := filepath.Join(folder, "wrapper", "runc")
	if out, err := exec.Command("go", "build", "-o", wrapper, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	real := filepath.Join(folder, "real")
	bundle := filepath.Join(folder, "bundle")
	copied := filepath.Join(folder, "copied")
	for _, path := range []string{real, bundle, copied} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(real, "runc"), "#!/bin/sh\necho \"$0 $*\"\n", 0o755)
	file := filepath.Join(bundle, "config.json")
	write(t, file, config, 0o640)
	program, err := os.ReadFile(wrapper)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(copied, "runc"), string(program), 0o755)

	call := exec.Command(wrapper, "--root", "/r", "create", "--bundle", bundle, "id")
	call.Env = []string{"PATH=" + filepath.Dir(wrapper) + ":" + copied + ":" + real + ":/usr/bin:/bin"}
	out, err := call.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, want := strings.TrimSpace(string(out)), filepath.Join(real, "runc")+" --root /r create --bundle "+bundle+" id"; got != want {
		t.Errorf("runc was called as %q, want %q", got, want)
	}
	after, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if untouched := string(after) == config; untouched != holds {
		t.Errorf("capability there: %v, file untouched: %v", holds, untouched)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o640 {
		t.Errorf("the file's mode became %v", info.Mode())
	}
	left, err := os.ReadDir(bundle)
	if err != nil || len(left) != 1 {
		t.Errorf("left in the bundle: %v, %v", left, err)
	}
}

func same(t *testing.T, got []byte, want string) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal(got, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
