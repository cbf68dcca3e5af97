package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func nodeWith(name, podRange, address string) node {
	var n node
	text := fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"podCIDR":%q},"status":{"addresses":[{"type":"Hostname","address":%q},`+
		`{"type":"InternalIP","address":"fc00::1"},{"type":"InternalIP","address":%q}]}}`, name, podRange, name, address)
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		panic(err)
	}
	return n
}

func TestEachOtherNodeGetsOneRoute(t *testing.T) {
	own, routes, err := plan("a", map[string]node{
		"a": nodeWith("a", "10.244.0.0/24", "172.18.0.2"),
		"b": nodeWith("b", "10.244.1.0/24", "172.18.0.3"),
		"c": nodeWith("c", "", "172.18.0.4"),
		"d": nodeWith("d", "10.244.3.0/24", ""),
	})
	if err != nil || own != "10.244.0.0/24" || !reflect.DeepEqual(routes, map[string]string{"10.244.1.0/24": "172.18.0.3"}) {
		t.Errorf("got %q, %v, %v", own, routes, err)
	}
	if _, _, err := plan("a", map[string]node{"b": nodeWith("b", "10.244.1.0/24", "172.18.0.3")}); err == nil {
		t.Error("a node without a pod range is no error")
	}
	if _, _, err := plan("a", map[string]node{"a": nodeWith("a", "no range", "172.18.0.3")}); err == nil {
		t.Error("a range that is none is no error")
	}
}

func TestOnlyDifferencesAreApplied(t *testing.T) {
	present, err := readRoutes(`[{"dst":"10.244.1.0/24","gateway":"172.18.0.3","dev":"eth0","flags":[]},{"dst":"10.244.2.0/24","gateway":"172.18.0.4"},` +
		`{"dst":"10.244.9.0/24","gateway":"172.18.0.9"}]`)
	if err != nil {
		t.Fatal(err)
	}
	got := difference(present, map[string]string{"10.244.1.0/24": "172.18.0.3", "10.244.2.0/24": "172.18.0.7", "10.244.3.0/24": "172.18.0.5"})
	want := []string{
		"ip -4 route del 10.244.9.0/24 proto 93",
		"ip -4 route replace 10.244.2.0/24 via 172.18.0.7 proto 93",
		"ip -4 route replace 10.244.3.0/24 via 172.18.0.5 proto 93",
	}
	var lines []string
	for _, step := range got {
		lines = append(lines, strings.Join(step, " "))
	}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("got %q", lines)
	}
	if none, err := readRoutes(" \n"); err != nil || len(none) != 0 {
		t.Errorf("no routes: %v, %v", none, err)
	}
	if _, err := readRoutes("{"); err == nil {
		t.Error("half a list is no error")
	}
}

func TestTheConfigurationIsValidAndWrittenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "10-comeback.conflist")
	text := conflist("10.244.1.0/24")
	if !json.Valid([]byte(text)) {
		t.Fatal(text)
	}
	if err := writeIfChanged(path, text); err != nil {
		t.Fatal(err)
	}
	first, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeIfChanged(path, text); err != nil {
		t.Fatal(err)
	}
	second, err := os.Stat(path)
	if err != nil || !os.SameFile(first, second) {
		t.Errorf("the same text was written twice, %v", err)
	}
	if err := writeIfChanged(path, conflist("10.244.2.0/24")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !strings.Contains(string(got), "10.244.2.0/24") {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestSettings(t *testing.T) {
	given := map[string]string{"NODE_NAME": "a", "CONTROL_PLANE_ENDPOINT": "a:6443", "POD_SUBNET": "10.244.0.0/16"}
	get := func(name string) string { return given[name] }
	got, err := settingsFromEnvironment(get)
	if err != nil || got.podSubnet != netip.MustParsePrefix("10.244.0.0/16") || got.cniFolder != "/etc/cni/net.d" {
		t.Errorf("got %v, %v", got, err)
	}
	for name, value := range map[string]string{"NODE_NAME": "", "CONTROL_PLANE_ENDPOINT": "", "POD_SUBNET": "fd00::/56,10.244.0.0/16"} {
		before := given[name]
		given[name] = value
		if _, err := settingsFromEnvironment(get); err == nil {
			t.Errorf("%s=%q is no error", name, value)
		}
		given[name] = before
	}
}

// An API server that lists two nodes, then tells by the watch that one has another address and that a third came and went, and closes.
func TestChangesAreFollowedUntilTheWatchEnds(t *testing.T) {
	other, moved, third := nodeWith("b", "10.244.1.0/24", "172.18.0.3"), nodeWith("b", "10.244.1.0/24", "172.18.0.8"), nodeWith("c", "10.244.2.0/24", "172.18.0.4")
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		encoder := json.NewEncoder(w)
		if r.URL.Query().Get("watch") == "" {
			_ = encoder.Encode(map[string]any{
				"metadata": map[string]string{"resourceVersion": "7"},
				"items":    []node{nodeWith("a", "10.244.0.0/24", "172.18.0.2"), other},
			})
			return
		}
		if r.URL.Query().Get("resourceVersion") != "7" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		for _, next := range []event{{"MODIFIED", moved}, {"ADDED", third}, {"BOOKMARK", node{}}, {"DELETED", third}} {
			_ = encoder.Encode(next)
		}
	}))
	defer server.Close()
	folder := t.TempDir()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, text := range map[string][]byte{"token": []byte("secret\n"), "ca.crt": authority} {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	routes := map[string]string{}
	var rules int
	host := newHost(settings{node: "a", podSubnet: netip.MustParsePrefix("10.244.0.0/16"), cniFolder: folder})
	host.run = func(_ context.Context, command ...string) (string, error) {
		switch line := strings.Join(command, " "); {
		case strings.HasPrefix(line, "ip -4 -json route show"):
			var list []map[string]string
			for destination, gateway := range routes {
				list = append(list, map[string]string{"dst": destination, "gateway": gateway})
			}
			text, err := json.Marshal(list)
			return string(text), err
		case strings.HasPrefix(line, "ip -4 route replace"):
			routes[command[4]] = command[6]
		case strings.HasPrefix(line, "ip -4 route del"):
			delete(routes, command[4])
		case strings.Contains(line, " -C ") && rules == 0:
			return "", errors.New("no such rule")
		case strings.Contains(line, " -A "):
			rules++
		}
		return "", nil
	}
	api := &api{server: strings.TrimPrefix(server.URL, "https://"), folder: folder}
	if err := follow(context.Background(), api, host); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(routes, map[string]string{"10.244.1.0/24": "172.18.0.8"}) || rules != 1 {
		t.Errorf("routes %v, rules %d", routes, rules)
	}
	if err := os.WriteFile(filepath.Join(folder, "token"), []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := follow(context.Background(), api, host); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("a refused token: %v", err)
	}
}
