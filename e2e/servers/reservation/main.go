// Command reservation stands for the pod by which KAI-Scheduler reserves a GPU that several pods share. KAI's own asks
// NVML which device it got; this one makes up a name, writes it into the same annotation of the pod it runs in, and waits.
//
//	POD_NAME, POD_NAMESPACE  its pod, as KAI's binder sets them
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	account    = "/var/run/secrets/kubernetes.io/serviceaccount/"
	annotation = "run.ai/reserve_for_gpu_index"
	attempts   = 30
)

func main() {
	log.SetFlags(0)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, os.Interrupt)
	if err := repeat(annotate); err != nil {
		log.Fatalf("reservation: %v", err)
	}
	<-ended
}

// repeat calls a function until it succeeds: the pod's network may not be ready yet.
func repeat(call func() error) error {
	var err error
	for range attempts {
		if err = call(); err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
	return err
}

// annotate writes the device's name, made from the pod's, into the pod's annotation.
func annotate() error {
	namespace, name := os.Getenv("POD_NAMESPACE"), os.Getenv("POD_NAME")
	client, token, err := connect()
	if err != nil {
		return err
	}
	address := fmt.Sprintf("https://kubernetes.default.svc/api/v1/namespaces/%s/pods/%s", namespace, name)
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, annotation, "GPU-"+name)
	request, err := http.NewRequest(http.MethodPatch, address, strings.NewReader(patch))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/merge-patch+json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		message, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
		return fmt.Errorf("%s: %s", response.Status, message)
	}
	return nil
}

// connect returns a client for the API server, and the pod's token.
func connect() (*http.Client, string, error) {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return nil, "", err
	}
	authority, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return nil, "", err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}, string(token), nil
}
