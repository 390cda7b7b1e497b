// Command load is a server of any load shape: slow or busy, limited, late, never ready. It speaks HTTP/1.1 and HTTP/2
// without TLS on one port, and tells Prometheus what a model server would.
//
//	HOST           where it listens; unset: everywhere
//	PORT           8080; 0 takes a free one and says which
//	METRICS_PORT   /metrics and /set on this port too
//	LATENCY        how long an answer takes, such as 200ms; 0s
//	CONCURRENCY    how many requests it works on concurrently, the others wait inside; 0 means unlimited
//	START_DELAY    how long it takes to listen, as a slow model takes to load; 0s
//	NEVER_READY    true: it listens and works, and /ready always returns 503
//	DRAIN          how long it takes new requests after SIGTERM, while it says that it is not ready; 0s
//	FILES          a folder that it serves under /files/
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
		log.Fatalf("load: %v", err)
	}
}

func run() error {
	settings, err := read(os.Getenv)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-time.After(settings.startDelay):
	case <-stop:
		return nil
	}

	server := newServer(settings)
	type port struct {
		name, number string
		handler      http.Handler
	}
	ports := []port{{"listening", settings.port, server.routes()}}
	if settings.metricsPort != "" {
		ports = append(ports, port{"metrics", settings.metricsPort, server.metricRoutes()})
	}
	failed := make(chan error, len(ports))
	var listening []*http.Server
	for _, port := range ports {
		listener, err := net.Listen("tcp", net.JoinHostPort(settings.host, port.number))
		if err != nil {
			return err
		}
		one := &http.Server{Handler: port.handler, ReadHeaderTimeout: time.Minute, Protocols: protocols()}
		listening = append(listening, one)
		go func() { failed <- one.Serve(listener) }()
		fmt.Printf("%s on %s\n", port.name, listener.Addr())
	}

	select {
	case err := <-failed:
		return err
	case <-stop:
	}
	server.draining.Store(true)
	fmt.Println("draining")
	time.Sleep(settings.drain)
	for _, one := range listening {
		// Without a time limit: the kubelet has one.
		if err := one.Shutdown(context.Background()); err != nil {
			return err
		}
	}
	fmt.Println("stopped")
	return nil
}

// protocols are what queue-proxy may speak to us: HTTP/1.1, or HTTP/2 with prior knowledge where the port is called h2c.
func protocols() *http.Protocols {
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	return both
}

type settings struct {
	host, port, metricsPort    string
	latency, startDelay, drain time.Duration
	concurrency                int
	neverReady                 bool
	files, pod, revision       string
}

func read(env func(string) string) (settings, error) {
	var problems []error
	duration := func(name string) time.Duration {
		value, err := time.ParseDuration(or(env(name), "0s"))
		if err == nil && value < 0 {
			err = fmt.Errorf("%s: a duration is not negative", value)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
		return value
	}
	number := func(name string) int {
		value, err := strconv.ParseUint(or(env(name), "0"), 10, 31)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
		return int(value)
	}
	flag := func(name string) bool {
		value, err := strconv.ParseBool(or(env(name), "false"))
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
		return value
	}
	return settings{
		host:        env("HOST"),
		port:        or(env("PORT"), "8080"),
		metricsPort: env("METRICS_PORT"),
		latency:     duration("LATENCY"),
		startDelay:  duration("START_DELAY"),
		drain:       duration("DRAIN"),
		concurrency: number("CONCURRENCY"),
		neverReady:  flag("NEVER_READY"),
		files:       env("FILES"),
		pod:         or(env("POD_NAME"), env("HOSTNAME")), // the kubelet sets HOSTNAME to the pod's name
		revision:    env("K_REVISION"),
	}, errors.Join(problems...)
}

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
