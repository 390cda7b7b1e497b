package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// account is where the kubelet mounts a pod's service account.
const account = "/var/run/secrets/kubernetes.io/serviceaccount"

// An api lists the cluster's pods. It asks at every scrape: a watch would be one more thing that can be stale.
type api struct {
	server, tokenFile string
	client            *http.Client
}

func newAPI(env func(string) string) (*api, error) {
	made := &api{
		server:    strings.TrimSuffix(env("API_SERVER"), "/"),
		tokenFile: account + "/token",
		client:    &http.Client{Timeout: 10 * time.Second},
	}
	if made.server != "" {
		return made, nil
	}
	host := env("KUBERNETES_SERVICE_HOST")
	if host == "" {
		return nil, errors.New("neither API_SERVER is set nor is this a pod")
	}
	made.server = "https://" + net.JoinHostPort(host, or(env("KUBERNETES_SERVICE_PORT"), "443"))
	authority, err := os.ReadFile(account + "/ca.crt")
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s/ca.crt holds no certificate", account)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // the API server is never behind one
	transport.TLSClientConfig = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
	made.client.Transport = transport
	return made, nil
}

// A pod is what we need of a Pod that holds GPUs.
type pod struct {
	namespace, name, uid, node string
	created                    time.Time
	labels                     map[string]string
	// serving: ready, and not told to stop.
	serving bool
	asks    []ask
}

// An ask is a container's request for devices of one kind.
type ask struct {
	container string
	kind      kind
	profile   string // of MIG, such as 1g.10gb
	count     int
}

type kind int

const (
	whole  kind = iota // nvidia.com/gpu
	shared             // nvidia.com/gpu.shared
	mig                // nvidia.com/mig-<profile>
)

// pods are the running ones that hold GPUs, the oldest first.
func (a *api) pods(ctx context.Context) ([]pod, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.server+"/api/v1/pods?fieldSelector=status.phase%3DRunning", nil)
	if err != nil {
		return nil, err
	}
	// Read each time: the kubelet renews it.
	if token, err := os.ReadFile(a.tokenFile); err == nil {
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	response, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return nil, fmt.Errorf("listing pods: %s: %s", response.Status, said)
	}
	var list podList
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	var found []pod
	for _, item := range list.Items {
		if one := item.pod(); len(one.asks) > 0 && item.Status.Phase == "Running" {
			found = append(found, one)
		}
	}
	slices.SortFunc(found, func(a, b pod) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	return found, nil
}

// podList is the part of a PodList that is read.
type podList struct {
	Items []podItem `json:"items"`
}

type podItem struct {
	Metadata struct {
		Name              string            `json:"name"`
		Namespace         string            `json:"namespace"`
		UID               string            `json:"uid"`
		Labels            map[string]string `json:"labels"`
		CreationTimestamp time.Time         `json:"creationTimestamp"`
		DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec struct {
		NodeName   string `json:"nodeName"`
		Containers []struct {
			Name      string `json:"name"`
			Resources struct {
				// Requests of extended resources equal their limits, and the API server fills them in.
				Limits map[string]string `json:"limits"`
			} `json:"resources"`
		} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase      string `json:"phase"`
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"status"`
}

func (p podItem) pod() pod {
	made := pod{
		namespace: p.Metadata.Namespace,
		name:      p.Metadata.Name,
		uid:       p.Metadata.UID,
		node:      p.Spec.NodeName,
		created:   p.Metadata.CreationTimestamp,
		labels:    p.Metadata.Labels,
	}
	for _, condition := range p.Status.Conditions {
		if condition.Type == "Ready" {
			made.serving = condition.Status == "True" && p.Metadata.DeletionTimestamp == nil
		}
	}
	for _, container := range p.Spec.Containers {
		for _, resource := range slices.Sorted(maps.Keys(container.Resources.Limits)) {
			count, err := strconv.Atoi(container.Resources.Limits[resource])
			if err != nil || count < 1 {
				continue
			}
			one := ask{container: container.Name, count: count}
			name, ours := strings.CutPrefix(resource, "nvidia.com/")
			switch profile, isMIG := strings.CutPrefix(name, "mig-"); {
			case !ours:
				continue
			case name == "gpu":
				one.kind = whole
			case name == "gpu.shared":
				one.kind = shared
			case isMIG:
				one.kind = mig
				// The device plugin writes + as a dot: mig-1g.10gb.me is the profile 1g.10gb+me.
				one.profile = strings.Replace(profile, ".me", "+me", 1)
			default:
				continue
			}
			made.asks = append(made.asks, one)
		}
	}
	return made
}
