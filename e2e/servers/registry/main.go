// Command registry is a registry of images and a store of files, whose downloads share a network of a limited speed.
//
//	HOST   where it listens; unset: everywhere
//	PORT   5000; 0 takes a free one and says which
//	DATA   a folder for the blobs, whose part `files` it serves under /files/
//	SPEED  bytes per second of all downloads together; unset: unlimited
package main

import (
	"cmp"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

const (
	// part is what a download writes before the next one has its turn.
	part = 32 << 10
	// burst is the pause after which the network has full speed for as long: a sleep may last longer than it should.
	burst = 100 * time.Millisecond
)

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatalf("registry: %v", err)
	}
}

func run() error {
	speed, err := strconv.ParseFloat(cmp.Or(os.Getenv("SPEED"), "0"), 64)
	if err != nil {
		return err
	}
	data := cmp.Or(os.Getenv("DATA"), "/data")
	blobs := filepath.Join(data, "blobs")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, os.Interrupt)
	mux := http.NewServeMux()
	mux.Handle("/v2/", registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs))))
	mux.Handle("GET /files/", http.StripPrefix("/files/", http.FileServer(http.Dir(filepath.Join(data, "files")))))
	listener, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("HOST"), cmp.Or(os.Getenv("PORT"), "5000")))
	if err != nil {
		return err
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	server := &http.Server{Handler: limit(mux, &network{speed: speed}), ReadHeaderTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ended:
		return nil
	}
}

// network has the time until which it is busy.
type network struct {
	speed float64
	mu    sync.Mutex
	free  time.Time
}

// wait returns when the network has carried the bytes.
func (n *network) wait(bytes int) {
	if n.speed == 0 {
		return
	}
	n.mu.Lock()
	if earliest := time.Now().Add(-burst); n.free.Before(earliest) {
		n.free = earliest
	}
	n.free = n.free.Add(time.Duration(float64(bytes) / n.speed * float64(time.Second)))
	until := n.free
	n.mu.Unlock()
	time.Sleep(time.Until(until))
}

// limited is a response whose body goes through the network, in parts: each download takes turns with the others.
type limited struct {
	http.ResponseWriter
	network *network
}

func (l limited) Write(content []byte) (int, error) {
	written := 0
	for written < len(content) {
		next := content[written:min(written+part, len(content))]
		l.network.wait(len(next))
		count, err := l.ResponseWriter.Write(next)
		written += count
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func limit(handler http.Handler, network *network) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(limited{w, network}, r)
	})
}
