// The pod network of a kind node: a DaemonSet on the host network, one of these programs on each node.
//
//  1. Nodes are listed and watched with the pod's service account (a kubelet's own identity may no longer list nodes).
//  2. The own node's pod range goes into a CNI configuration: `ptp` with addresses from `host-local`, and `portmap`. As soon as it is there, the
//     kubelet calls the node Ready.
//  3. Each other node gets one route: its pod range, by its address. Routes of nodes that are gone are taken away.
//  4. What leaves the pod range is masqueraded, as the rest of the world has no route back to a pod.
//
// A watch ends when it likes (the API server closes it, kube-proxy first programs its rules, the control plane restarts); then everything is
// listed again, and what is wanted is compared with what is there. So a node that comes back, with the same address or another one, needs no case of
// its own. The API server is reached by the control plane's own address, not by a Service: nothing here depends on kube-proxy.
//
// It stands in for kindnetd, which is published as an image only. IPv4 only, no network policies.
package main

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	// How long to wait after a failed pass or a watch that ended.
	pause = time.Second
	// A watch is asked to end after this time, so that all is compared anew at least this often.
	watchFor = 60 * time.Second
	// The longest that one request may take to answer.
	answerWithin = 10 * time.Second
	// The longest that one call of ip or iptables may take; iptables may have to wait for its lock.
	commandWithin = 15 * time.Second
)

func main() {
	log.SetFlags(log.LstdFlags | log.LUTC)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	settings, err := settingsFromEnvironment(os.Getenv)
	if err != nil {
		log.Fatal(err)
	}
	api := newAPI(settings.server)
	host := newHost(settings)
	for ctx.Err() == nil {
		if err := follow(ctx, api, host); err != nil && ctx.Err() == nil {
			log.Printf("%v; again in %v", err, pause)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	log.Print("stopped; routes and rules stay for the pods that are running")
}

// follow lists the nodes, brings the host in line, and does so again after each change, until the watch ends.
func follow(ctx context.Context, api *api, host *host) error {
	nodes, version, err := api.list(ctx)
	if err != nil {
		return err
	}
	if err := host.apply(ctx, nodes); err != nil {
		return err
	}
	return api.watch(ctx, version, func(event event) error {
		if event.Type == "DELETED" {
			delete(nodes, event.Object.Metadata.Name)
		} else {
			nodes[event.Object.Metadata.Name] = event.Object
		}
		return host.apply(ctx, nodes)
	})
}

// settings is what the DaemonSet tells this program.
type settings struct {
	node      string       // the own node's name
	podSubnet netip.Prefix // the range of all pods
	server    string       // host:port of the API server
	cniFolder string       // where the CNI configuration goes
}

func settingsFromEnvironment(get func(string) string) (settings, error) {
	s := settings{node: get("NODE_NAME"), server: get("CONTROL_PLANE_ENDPOINT"), cniFolder: get("CNI_FOLDER")}
	if s.node == "" {
		return s, fmt.Errorf("reading the settings: NODE_NAME is empty")
	}
	if s.server == "" {
		return s, fmt.Errorf("reading the settings: CONTROL_PLANE_ENDPOINT is empty")
	}
	if s.cniFolder == "" {
		s.cniFolder = "/etc/cni/net.d"
	}
	var err error
	s.podSubnet, err = netip.ParsePrefix(get("POD_SUBNET"))
	if err != nil || !s.podSubnet.Addr().Is4() {
		return s, fmt.Errorf("reading the settings: POD_SUBNET is `%s`, not one IPv4 range", get("POD_SUBNET"))
	}
	return s, nil
}
