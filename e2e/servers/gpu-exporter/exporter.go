package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A workload is named by its namespace and one of the labels in names.
type workload struct {
	Namespace string `json:"namespace"`
	Workload  string `json:"workload"`
}

// names are the labels whose value names a pod's workload.
var names = []string{"app.kubernetes.io/name", "serving.knative.dev/service", "serving.kserve.io/inferenceservice"}

// A load is the work of one workload in per cent of a GPU: in total, or for each of its pods.
type load struct {
	percent float64
	each    bool
}

type exporter struct {
	api       *api
	inventory inventory

	mu    sync.Mutex
	loads map[workload]load
	// held are the places of the pods that the last scrape saw, by UID.
	held map[string][]place
}

func (e *exporter) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /metrics", e.metrics)
	mux.HandleFunc("GET /load", e.show)
	mux.HandleFunc("PUT /load", e.setLoad)
	mux.HandleFunc("DELETE /load", e.clearLoad)
	return mux
}

func (e *exporter) setLoad(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	of := workload{query.Get("namespace"), query.Get("workload")}
	total, each := query.Get("total"), query.Get("each")
	percent, err := strconv.ParseFloat(total+each, 64)
	if of.Namespace == "" || of.Workload == "" || (total == "") == (each == "") || err != nil || percent < 0 {
		http.Error(w, "PUT /load?namespace=&workload=&total= (or each=) per cent of a GPU", http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.loads[of] = load{percent: percent, each: each != ""}
	w.WriteHeader(http.StatusNoContent)
}

func (e *exporter) clearLoad(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if of := (workload{r.URL.Query().Get("namespace"), r.URL.Query().Get("workload")}); of.Workload != "" {
		delete(e.loads, of)
	} else {
		clear(e.loads)
	}
	w.WriteHeader(http.StatusNoContent)
}

// A holder is a pod with its devices and how busy each of them is with its work, 0 to 100.
type holder struct {
	pod
	places  []place
	percent float64
}

func (e *exporter) holders(ctx context.Context) ([]holder, error) {
	pods, err := e.api.pods(ctx)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held = e.inventory.allot(pods, e.held)
	busy := share(pods, e.loads)
	var found []holder
	for _, pod := range pods {
		found = append(found, holder{pod: pod, places: e.held[pod.uid], percent: busy[pod.uid] / float64(len(e.held[pod.uid]))})
	}
	return found, nil
}

// share divides the loads among the pods, by UID. A pod can do 100% for each of its devices, and the rest of the work
// waits, as it would in a server's queue. Pods that aren't ready get nothing: no request reaches them.
func share(pods []pod, loads map[workload]load) map[string]float64 {
	busy := map[string]float64{}
	for of, load := range loads {
		var serving []pod
		for _, pod := range pods {
			named := slices.ContainsFunc(names, func(name string) bool { return pod.labels[name] == of.Workload })
			if pod.serving && named && pod.namespace == of.Namespace {
				serving = append(serving, pod)
			}
		}
		for _, pod := range serving {
			devices := 0
			for _, ask := range pod.asks {
				devices += ask.count
			}
			percent := load.percent * float64(devices)
			if !load.each {
				percent = load.percent / float64(len(serving))
			}
			busy[pod.uid] = min(busy[pod.uid]+percent, float64(100*devices))
		}
	}
	return busy
}

func (e *exporter) show(w http.ResponseWriter, r *http.Request) {
	holders, err := e.holders(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	type row struct {
		Namespace string  `json:"namespace"`
		Pod       string  `json:"pod"`
		Serving   bool    `json:"serving"`
		Percent   float64 `json:"percent"`
		GPUs      []int   `json:"gpus"`
	}
	rows := []row{}
	for _, holder := range holders {
		one := row{holder.namespace, holder.name, holder.serving, holder.percent, nil}
		for _, place := range holder.places {
			one.GPUs = append(one.GPUs, place.gpu)
		}
		rows = append(rows, one)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(rows)
}

// A metric is one of dcgm-exporter's, with its lines.
type metric struct {
	name, kind, help string
	lines            []string
}

func (e *exporter) metrics(w http.ResponseWriter, r *http.Request) {
	holders, err := e.holders(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	for _, metric := range e.inventory.metrics(holders) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %[1]s %[3]s\n", metric.name, metric.help, metric.kind)
		for _, line := range metric.lines {
			fmt.Fprintf(w, "%s%s\n", metric.name, line)
		}
	}
}

func (i inventory) metrics(holders []holder) []metric {
	utilization := metric{name: "DCGM_FI_DEV_GPU_UTIL", kind: "gauge", help: "GPU utilization (in %)."}
	memory := metric{name: "DCGM_FI_DEV_FB_USED", kind: "gauge", help: "Framebuffer memory used (in MiB)."}
	active := metric{
		name: "DCGM_FI_PROF_GR_ENGINE_ACTIVE", kind: "gauge",
		help: "Ratio of time the graphics engine is active.",
	}
	pods := make([]pod, len(holders))
	for at, holder := range holders {
		pods[at] = holder.pod
	}
	for _, node := range nodes(i, pods) {
		// The load of each device from all of its pods, and the idle devices.
		device := map[int]float64{}
		var taken []place
		for _, holder := range holders {
			if holder.node != node {
				continue
			}
			taken = append(taken, holder.places...)
			for _, place := range holder.places {
				device[place.gpu] = min(device[place.gpu]+holder.percent, 100)
			}
		}
		for _, holder := range holders {
			if holder.node != node {
				continue
			}
			for _, place := range holder.places {
				labels := slices.Concat(
					i.labels(node, place.gpu),
					i.instanceLabels(place),
					[]string{
						label(i.hostname, node),
						label("container", place.container),
						label("namespace", holder.namespace),
						label("pod", holder.name),
					},
				)
				// Utilization and memory are each process's own (KUBERNETES_VIRTUAL_GPUS, dcgm-exporter 4.5.3-4.8.2); a
				// profiling metric is the device's, copied to every pod on it. MIG has no GPU_UTIL, and its engine's
				// activity is the instance's.
				engine := device[place.gpu]
				if place.kind == mig {
					engine = holder.percent
				} else {
					utilization.add(labels, holder.percent)
				}
				active.add(labels, engine/100)
				memory.add(labels, float64(i.memoryUsed(place)))
			}
		}
		for gpu := range i.shown(taken) {
			if !slices.ContainsFunc(taken, func(place place) bool { return place.gpu == gpu }) {
				labels := append(i.labels(node, gpu), label(i.hostname, node))
				utilization.add(labels, 0)
				active.add(labels, 0)
				memory.add(labels, 0)
			}
		}
	}
	return []metric{utilization, memory, active}
}

func (m *metric) add(labels []string, value float64) {
	m.lines = append(m.lines, fmt.Sprintf("{%s} %s", strings.Join(labels, ","), strconv.FormatFloat(value, 'f', -1, 64)))
}
