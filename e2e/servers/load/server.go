package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

type server struct {
	settings settings
	// slots has one place for each request that is worked on; nil where there is no limit.
	slots    chan struct{}
	draining atomic.Bool

	counts
}

// counts are what the server has seen. In flight are the requests that it works on; those that wait for a slot are
// queued.
type counts struct {
	mu                                      sync.Mutex
	inFlight, maxInFlight, queued, answered int
	// queueLength is the queue length in /metrics; the test sets it.
	queueLength int
}

func newServer(settings settings) *server {
	made := &server{settings: settings}
	if settings.concurrency > 0 {
		made.slots = make(chan struct{}, settings.concurrency)
	}
	return made
}

func (s *server) routes() http.Handler {
	mux := s.metricRoutes()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /ready", s.ready)
	if s.settings.files != "" {
		mux.Handle("GET /files/", http.StripPrefix("/files/", http.FileServer(http.Dir(s.settings.files))))
	}
	// The routes of an OpenAI server, for the commands that call one.
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"object":"list","data":[{"id":"load","object":"model"}]}`)
	})
	mux.HandleFunc("POST /v1/chat/completions", s.chat)
	// Every other path too: a route's own path, a model's `:predict`.
	mux.HandleFunc("/", s.answer)
	return mux
}

func (s *server) metricRoutes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("PUT /set", s.set)
	return mux
}

func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	switch {
	case s.settings.neverReady:
		http.Error(w, "never ready", http.StatusServiceUnavailable)
	case s.draining.Load():
		http.Error(w, "draining", http.StatusServiceUnavailable)
	default:
		io.WriteString(w, "ready\n")
	}
}

// An answer says who answered, and how busy the server was when it began to work on the request.
type answer struct {
	Pod         string  `json:"pod"`
	Revision    string  `json:"revision"`
	Method      string  `json:"method"`
	Path        string  `json:"path"`
	Protocol    string  `json:"protocol"`
	InFlight    int     `json:"inFlight"`
	MaxInFlight int     `json:"maxInFlight"`
	Queued      int     `json:"queued"`
	WaitSeconds float64 `json:"waitSeconds"`
	WorkSeconds float64 `json:"workSeconds"`
}

func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	sleep, cpu := s.settings.latency, time.Duration(0)
	for name, value := range map[string]*time.Duration{"sleep": &sleep, "cpu": &cpu} {
		if asked := r.URL.Query().Get(name); asked != "" {
			parsed, err := time.ParseDuration(asked)
			if err != nil {
				http.Error(w, fmt.Sprintf("%s: %v", name, err), http.StatusBadRequest)
				return
			}
			*value = parsed
		}
	}
	mebibytes, err := strconv.Atoi(cmp.Or(r.URL.Query().Get("memory"), "0"))
	if err != nil || mebibytes < 0 {
		http.Error(w, "memory: not a number of MiB", http.StatusBadRequest)
		return
	}
	// A body that is not read holds up the client's next request on the connection.
	io.Copy(io.Discard, r.Body)

	arrived := time.Now()
	if !s.begin(r) {
		return
	}
	began := time.Now()
	said := s.seen()
	defer s.end()
	held := make([]byte, mebibytes<<20)
	for page := 0; page < len(held); page += 4096 {
		held[page] = 1
	}
	defer runtime.KeepAlive(held)
	if cpu > 0 {
		burn(r, cpu)
	} else {
		select {
		case <-time.After(sleep):
		case <-r.Context().Done():
		}
	}
	said.Pod, said.Revision = s.settings.pod, s.settings.revision
	said.Method, said.Path, said.Protocol = r.Method, r.URL.Path, r.Proto
	said.WaitSeconds, said.WorkSeconds = began.Sub(arrived).Seconds(), time.Since(began).Seconds()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(said)
}

// chat streams a fixed answer as an OpenAI server does, one token per event.
func (s *server) chat(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	if !s.begin(r) {
		return
	}
	defer s.end()
	w.Header().Set("Content-Type", "text/event-stream")
	for _, token := range []string{"An ", "idle ", "service ", "costs ", "nothing."} {
		fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", token)
		http.NewResponseController(w).Flush()
	}
	io.WriteString(w, "data: [DONE]\n\n")
}

// begin waits for a slot; false where the client went away first.
func (s *server) begin(r *http.Request) bool {
	s.change(func(c *counts) { c.queued++ })
	if s.slots != nil {
		select {
		case s.slots <- struct{}{}:
		case <-r.Context().Done():
			s.change(func(c *counts) { c.queued-- })
			return false
		}
	}
	s.change(func(c *counts) {
		c.queued--
		c.inFlight++
		c.maxInFlight = max(c.maxInFlight, c.inFlight)
	})
	return true
}

func (s *server) end() {
	s.change(func(c *counts) {
		c.inFlight--
		c.answered++
	})
	if s.slots != nil {
		<-s.slots
	}
}

func (s *server) seen() answer {
	var said answer
	s.change(func(c *counts) {
		said = answer{InFlight: c.inFlight, MaxInFlight: c.maxInFlight, Queued: c.queued}
	})
	return said
}

func (c *counts) change(by func(*counts)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	by(c)
}

// burn keeps one CPU busy until the time is over: a pod with less than one CPU is throttled, and works as long.
func burn(r *http.Request, duration time.Duration) {
	for end := time.Now().Add(duration); time.Now().Before(end) && r.Context().Err() == nil; {
	}
}

func (s *server) set(w http.ResponseWriter, r *http.Request) {
	length, err := strconv.Atoi(r.URL.Query().Get("queue_length"))
	if err != nil {
		http.Error(w, "PUT /set?queue_length=<whole number>", http.StatusBadRequest)
		return
	}
	s.change(func(c *counts) { c.queueLength = length })
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	s.change(func(c *counts) {
		for _, metric := range []struct {
			name, kind, help string
			value            int
		}{
			{"ebbtide_test_queue_length", "gauge", "What PUT /set?queue_length= said last.", c.queueLength},
			{"ebbtide_test_requests_total", "counter", "Requests answered.", c.answered},
			{"ebbtide_test_in_flight", "gauge", "Requests being worked on.", c.inFlight},
			{"ebbtide_test_queued", "gauge", "Requests that wait for the server's own limit.", c.queued},
		} {
			fmt.Fprintf(w, "# HELP %s %s\n# TYPE %[1]s %[3]s\n%[1]s %[4]d\n", metric.name, metric.help, metric.kind, metric.value)
		}
	})
}
