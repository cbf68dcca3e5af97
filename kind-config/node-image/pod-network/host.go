package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Our routes carry this number as their origin (see /etc/iproute2/rt_protos), so that they are known again, and only they are ever removed.
const routeProtocol = "93"

// host is this node: its CNI configuration, its routes, its masquerade rule.
type host struct {
	settings settings
	run      func(ctx context.Context, command ...string) (string, error)
	applied  map[string]string // the routes of the last pass, to log changes only
}

func newHost(settings settings) *host {
	return &host{settings: settings, run: run}
}

// apply brings the host in line with the nodes. It may be repeated at will.
func (h *host) apply(ctx context.Context, nodes map[string]node) error {
	own, wanted, err := plan(h.settings.node, nodes)
	if err != nil {
		return err
	}
	// Routes and masquerade come first: once the CNI configuration is there, pods start.
	if err := h.masquerade(ctx); err != nil {
		return err
	}
	if err := h.route(ctx, wanted); err != nil {
		return err
	}
	return writeIfChanged(filepath.Join(h.settings.cniFolder, "10-comeback.conflist"), conflist(own))
}

// plan works out the own pod range and one route for each other node: pod range to address.
func plan(self string, nodes map[string]node) (own string, routes map[string]string, err error) {
	routes = map[string]string{}
	for name, node := range nodes {
		if node.Spec.PodCIDR == "" {
			continue // not given out yet; the watch tells
		}
		if _, err := netip.ParsePrefix(node.Spec.PodCIDR); err != nil {
			return "", nil, fmt.Errorf("reading the pod range of node `%s`: %w", name, err)
		}
		if name == self {
			own = node.Spec.PodCIDR
		} else if address := node.address(); address != "" {
			routes[node.Spec.PodCIDR] = address
		}
	}
	if own == "" {
		return "", nil, fmt.Errorf("node `%s` has no pod range yet", self)
	}
	return own, routes, nil
}

// route replaces what differs and removes those of our routes that nobody wants any more.
func (h *host) route(ctx context.Context, wanted map[string]string) error {
	text, err := h.run(ctx, "ip", "-4", "-json", "route", "show", "proto", routeProtocol)
	if err != nil {
		return err
	}
	present, err := readRoutes(text)
	if err != nil {
		return err
	}
	for _, step := range difference(present, wanted) {
		if _, err := h.run(ctx, step...); err != nil {
			return err
		}
	}
	if !mapsEqual(h.applied, wanted) {
		log.Printf("routes: %s", describe(wanted))
		h.applied = wanted
	}
	return nil
}

// readRoutes reads `ip -json route`. No route at all is an empty text in some versions.
func readRoutes(text string) (map[string]string, error) {
	routes := map[string]string{}
	if strings.TrimSpace(text) == "" {
		return routes, nil
	}
	var list []struct {
		Destination string `json:"dst"`
		Gateway     string `json:"gateway"`
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("reading the routes: %w", err)
	}
	for _, route := range list {
		routes[route.Destination] = route.Gateway
	}
	return routes, nil
}

// difference lists the commands that lead from the present routes to the wanted ones, removals first.
func difference(present, wanted map[string]string) [][]string {
	var steps [][]string
	for _, destination := range sortedKeys(present) {
		if _, is := wanted[destination]; !is {
			steps = append(steps, []string{"ip", "-4", "route", "del", destination, "proto", routeProtocol})
		}
	}
	for _, destination := range sortedKeys(wanted) {
		if present[destination] != wanted[destination] {
			steps = append(steps, []string{"ip", "-4", "route", "replace", destination, "via", wanted[destination], "proto", routeProtocol})
		}
	}
	return steps
}

// masquerade adds the one rule, unless it is there.
func (h *host) masquerade(ctx context.Context) error {
	subnet := h.settings.podSubnet.String()
	rule := []string{
		"POSTROUTING", "-s", subnet, "!", "-d", subnet, "-m", "addrtype", "!", "--dst-type", "LOCAL",
		"-m", "comment", "--comment", "comeback pod network: what leaves the pods' range", "-j", "MASQUERADE",
	}
	if _, err := h.run(ctx, append([]string{"iptables", "-w", "10", "-t", "nat", "-C"}, rule...)...); err == nil {
		return nil
	}
	_, err := h.run(ctx, append([]string{"iptables", "-w", "10", "-t", "nat", "-A"}, rule...)...)
	return err
}

// conflist is the CNI configuration. Addresses are kept on a tmpfs: after the node lost power, all of them are free, as its pods are gone.
func conflist(podRange string) string {
	return `{
  "cniVersion": "0.4.0",
  "name": "comeback",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/comeback-pod-network",
        "routes": [{ "dst": "0.0.0.0/0" }],
        "ranges": [[{ "subnet": "` + podRange + `" }]]
      }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
`
}

// writeIfChanged replaces the file in one step: containerd reads it as soon as it changes.
func writeIfChanged(path, text string) error {
	if present, err := os.ReadFile(path); err == nil && string(present) == text {
		return nil
	}
	next := path + ".next" // containerd reads .conf, .conflist and .json only
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing the CNI configuration: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("writing the CNI configuration: %w", err)
	}
	log.Printf("wrote %s", path)
	return nil
}

// run starts a program of the system with a deadline and gives what it printed.
func run(ctx context.Context, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandWithin)
	defer cancel()
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			return "", fmt.Errorf("running `%s`: %w: %s", strings.Join(command, " "), err, strings.TrimSpace(string(failed.Stderr)))
		}
		return "", fmt.Errorf("running `%s`: %w", strings.Join(command, " "), err)
	}
	return string(out), nil
}

func describe(routes map[string]string) string {
	if len(routes) == 0 {
		return "none"
	}
	var words []string
	for _, destination := range sortedKeys(routes) {
		words = append(words, destination+" by "+routes[destination])
	}
	return strings.Join(words, ", ")
}

func sortedKeys(routes map[string]string) []string {
	keys := make([]string, 0, len(routes))
	for key := range routes {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func mapsEqual(a, b map[string]string) bool {
	return a != nil && describe(a) == describe(b)
}
