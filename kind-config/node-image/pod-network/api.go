package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount"

// node is what this program reads of a Node object.
type node struct {
	Metadata struct {
		Name            string `json:"name"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Spec struct {
		PodCIDR string `json:"podCIDR"`
	} `json:"spec"`
	Status struct {
		Addresses []struct {
			Type    string `json:"type"`
			Address string `json:"address"`
		} `json:"addresses"`
	} `json:"status"`
}

// address is the node's own one in the cluster's network, or empty.
func (n node) address() string {
	for _, address := range n.Status.Addresses {
		if address.Type == "InternalIP" && !strings.Contains(address.Address, ":") {
			return address.Address
		}
	}
	return ""
}

type event struct {
	Type   string `json:"type"`
	Object node   `json:"object"`
}

// api is the few calls of the Kubernetes API that are needed, with the token and the authority of the pod's service account.
type api struct {
	server, folder string
}

func newAPI(server string) *api {
	return &api{server: server, folder: accountFolder}
}

// get sends one request. Token and authority are read each time, as the kubelet renews them, and the connection is a new one each time: after the
// control plane restarted, possibly with another address, an old one would only hang.
func (a *api) get(ctx context.Context, query url.Values) (*http.Response, error) {
	token, err := os.ReadFile(a.folder + "/token")
	if err != nil {
		return nil, fmt.Errorf("reading the service account's token: %w", err)
	}
	authority, err := os.ReadFile(a.folder + "/ca.crt")
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, errors.New("reading the cluster's authority: no certificate in ca.crt")
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives:     true,
		ResponseHeaderTimeout: answerWithin,
		TLSHandshakeTimeout:   answerWithin,
		TLSClientConfig:       &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+a.server+"/api/v1/nodes?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the API server for nodes: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(response.Body, 300))
		return nil, fmt.Errorf("asking the API server for nodes: %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	return response, nil
}

func (a *api) list(ctx context.Context) (map[string]node, string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	response, err := a.get(ctx, url.Values{})
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	var list struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Items []node `json:"items"`
	}
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
		return nil, "", fmt.Errorf("reading the list of nodes: %w", err)
	}
	nodes := make(map[string]node, len(list.Items))
	for _, item := range list.Items {
		nodes[item.Metadata.Name] = item
	}
	return nodes, list.Metadata.ResourceVersion, nil
}

// watch calls back for each change after the version. It returns nil when the watch ended in the ordinary way.
func (a *api) watch(ctx context.Context, version string, changed func(event) error) error {
	// The server ends the watch after watchFor; if it is gone for good without a word, this ends it a little later.
	ctx, cancel := context.WithTimeout(ctx, watchFor+answerWithin)
	defer cancel()
	response, err := a.get(ctx, url.Values{
		"watch":           {"true"},
		"resourceVersion": {version},
		"timeoutSeconds":  {strconv.Itoa(int(watchFor / time.Second))},
	})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	decoder := json.NewDecoder(response.Body)
	for {
		var next event
		if err := decoder.Decode(&next); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("watching the nodes: %w", err)
		}
		switch next.Type {
		case "ADDED", "MODIFIED", "DELETED":
			if err := changed(next); err != nil {
				return err
			}
		case "ERROR":
			return errors.New("watching the nodes: the API server says that the version is too old")
		}
	}
}
