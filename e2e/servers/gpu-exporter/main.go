// Command gpu-exporter exports what NVIDIA's dcgm-exporter would export for the cluster's GPU pods, on a cluster without GPUs:
// the same metrics and labels, of devices that exist only here. Their load is set by requests:
//
//	GET    /metrics
//	PUT    /load?namespace=N&workload=W&total=240   240% of a GPU's work for W, shared by its ready pods, at most 100% each
//	PUT    /load?namespace=N&workload=W&each=90     90% for each of its ready pods
//	DELETE /load                                    nothing to do, for all or for the one named
//	GET    /load                                    the pods as they are now, as JSON
//
//	PORT             9400; 0 takes a free one and says which
//	HOST             where it listens; unset: everywhere
//	GPUS             devices of each node, 4; more where the pods ask for more
//	SHARES           pods that a time-sliced device serves (nvidia.com/gpu.shared), 4
//	MODEL            "NVIDIA H100 80GB HBM3", of MEMORY (MiB) 81559
//	HOSTNAME_LABEL   Hostname; dcgm-exporter since May 2026 says hostname
//	NODE_NAME        a node whose idle devices are shown even before a pod asks for one
//	API_SERVER       http(s)://host:port; unset: the cluster's own, with the pod's service account
//
// Names and labels are those of NVIDIA/dcgm-exporter: etc/default-counters.csv and internal/pkg/rendermetrics.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatalf("gpu-exporter: %v", err)
	}
}

func run() error {
	inventory := inventory{
		node:     os.Getenv("NODE_NAME"),
		model:    or(os.Getenv("MODEL"), "NVIDIA H100 80GB HBM3"),
		hostname: or(os.Getenv("HOSTNAME_LABEL"), "Hostname"),
	}
	for name, number := range map[string]struct {
		fallback string
		value    *int
	}{
		"GPUS":   {"4", &inventory.gpus},
		"SHARES": {"4", &inventory.shares},
		"MEMORY": {"81559", &inventory.memory},
	} {
		var err error
		if *number.value, err = strconv.Atoi(or(os.Getenv(name), number.fallback)); err != nil || *number.value < 1 {
			return fmt.Errorf("%s: %q is no number above 0", name, os.Getenv(name))
		}
	}
	api, err := newAPI(os.Getenv)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("HOST"), or(os.Getenv("PORT"), "9400")))
	if err != nil {
		return err
	}
	exporter := &exporter{api: api, inventory: inventory, loads: map[workload]load{}, held: map[string][]place{}}
	server := &http.Server{Handler: exporter.routes(), ReadHeaderTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	fmt.Printf("listening on %s\n", listener.Addr())

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-failed:
		return err
	case <-stop:
		ending, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return errors.Join(server.Shutdown(ending))
	}
}

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
