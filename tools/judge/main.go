// Command judge says what upstream's own code makes of an object: it reads one
// JSON request a line from standard input and writes one JSON answer a line to
// standard output. README.md describes the requests.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// A judge reads the request and returns a value whose JSON is the answer.
// An error means that the request could not be judged at all, which is not the
// same as an object being refused.
type judge func(request []byte) (any, error)

// judges is filled here rather than by init functions in each file, so that
// one place shows what the program can do. KServe adds itself, in kserve.go: the
// program in the folder newest does not link it.
var judges = map[string]judge{
	"crd":      judgeCRD,
	"duration": judgeDurations,
	"knative":  judgeKnative,
	"object":   judgeBuiltin,
	"policy":   judgePolicies,
	"quantity": judgeQuantities,
	"version":  judgeVersions,
	"yaml":     judgeYAML,
}

func main() {
	prepareUpstream()
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(1)
	}
}

// prepareUpstream gives the linked code the surroundings it expects.
//
// It must not log: a line on standard output would break the protocol, and on
// standard error a caller that does not drain it would block us. And Knative
// panics without the name of the system namespace.
func prepareUpstream() {
	if _, set := os.LookupEnv("SYSTEM_NAMESPACE"); !set {
		_ = os.Setenv("SYSTEM_NAMESPACE", "knative-serving")
	}
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	_ = flags.Set("logtostderr", "false")
	_ = flags.Set("alsologtostderr", "false")
	_ = flags.Set("stderrthreshold", "FATAL")
	klog.SetOutput(io.Discard)
	klog.SetLogger(logr.Discard())
}

// serve answers until the input ends. Lines have no length limit: a rendered
// object with a large annotation easily exceeds a Scanner's.
func serve(in io.Reader, out io.Writer) error {
	reader := bufio.NewReaderSize(in, 1<<20)
	for {
		line, readErr := reader.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if _, err := out.Write(answerLine(line)); err != nil {
				return err
			}
		}
		if errors.Is(readErr, io.EOF) {
			return nil
		}
		if readErr != nil {
			return readErr
		}
	}
}

// A header begins every request.
type header struct {
	ID   json.RawMessage `json:"id"`
	Kind string          `json:"kind"`
}

// readRequest refuses members it does not know: a misspelt "config" would
// otherwise be judged by the defaults, silently.
func readRequest(request []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(request))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// answerLine never fails: whatever goes wrong becomes the answer's "error".
func answerLine(line []byte) []byte {
	var head header
	var answer any
	err := json.Unmarshal(line, &head)
	if err == nil {
		answer, err = dispatch(head.Kind, line)
	}
	var body []byte
	if err == nil {
		body, err = encode(answer)
	}
	if err != nil {
		body, _ = encode(map[string]string{"error": err.Error()})
	}
	if len(head.ID) == 0 {
		head.ID = json.RawMessage("null")
	}
	return slices.Concat([]byte(`{"id":`), head.ID, []byte(`,`), body[1:], []byte("\n"))
}

// dispatch turns a panic in linked code into an error, so that one odd request
// does not end the process and every request queued behind it.
func dispatch(kind string, line []byte) (answer any, err error) {
	run, known := judges[kind]
	if !known {
		return nil, fmt.Errorf("unknown kind %q", kind)
	}
	defer func() {
		if p := recover(); p != nil {
			answer, err = nil, fmt.Errorf("panic in %s: %v\n%s", kind, p, debug.Stack())
		}
	}()
	return run(line)
}

// encode gives one line of JSON that is an object with at least one member.
func encode(value any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false) // CEL expressions are full of && and <
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	body := bytes.TrimSpace(buffer.Bytes())
	if len(body) < 3 || body[0] != '{' {
		return nil, fmt.Errorf("an answer must be a JSON object with members, not %s", body)
	}
	return body, nil
}
