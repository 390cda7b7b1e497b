// Command vectors writes what upstream's autoscalers decide, for Ebbtide's port to be held against.
//
//	vectors -out ../../tests/vectors
//
// Each file is one JSON value a line. Inputs are random from fixed seeds, outputs are upstream's own: nothing here
// computes one. Code that asks for the time runs in a testing/synctest bubble, whose clock starts at a whole day and
// moves only where a sequence sleeps; that is the one reason for the package testing in a program.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"
)

var (
	out  = flag.String("out", ".", "the folder to write to")
	only = flag.String("only", "", "the one file to write, without its ending; empty: all")
)

// row is one line of a file, or an object in it.
type row = map[string]any

// files has what is written; each function calls its argument once a line.
var files = []struct {
	name  string
	write func(t *testing.T, emit func(any))
}{
	{"windows", windows},
	{"kpa", decisions},
	{"targets", targets},
	{"samples", samples},
	{"collector", collections},
	{"reconciler", reconciliations},
	{"breaker", breakers},
	{"throttler", throttlers},
	{"hpa", horizontal},
}

func main() {
	log.SetFlags(0)
	klog.LogToStderr(false) // upstream's log lines are of no use here
	klog.SetOutput(io.Discard)
	// Upstream's handler slows down after an error by the clock, and each bubble has its own.
	runtime.ErrorHandlers = nil
	// testing.Main parses the flags, ours too, and exits.
	testing.Main(func(_, _ string) (bool, error) { return true, nil }, []testing.InternalTest{
		{Name: "vectors", F: writeAll},
	}, nil, nil)
}

func writeAll(t *testing.T) {
	for _, f := range files {
		if *only != "" && *only != f.name {
			continue
		}
		file, err := os.Create(filepath.Join(*out, f.name+".jsonl"))
		check(err)
		buffer := bufio.NewWriter(file)
		f.write(t, func(line any) {
			text, err := json.Marshal(line)
			check(err)
			_, err = buffer.Write(append(text, '\n'))
			check(err)
		})
		check(buffer.Flush())
		check(file.Close())
	}
}

// inBubble runs f where time is made up; it starts at 2000-01-01 and passes only in sleep.
func inBubble(t *testing.T, f func(*testing.T)) { synctest.Test(t, f) }

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// dice are random choices from a seed.
type dice struct{ *rand.Rand }

func newDice(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 0x0ebb71de))} }

func (d dice) chance(p float64) bool { return d.Float64() < p }

// between is a whole number from low to high, both included.
func (d dice) between(low, high int) int { return low + d.IntN(high-low+1) }

func pick[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

// maybe is a pointer to one of the choices, or nil.
func maybe[T any](d dice, p float64, of ...T) *T {
	if !d.chance(p) {
		return nil
	}
	v := pick(d, of...)
	return &v
}

// measured is a value as windows give it (rounded to a millionth), now and then a full float.
func (d dice) measured(scale float64) float64 {
	v := d.Float64() * scale
	switch {
	case d.chance(0.04):
		return v
	case d.chance(0.3):
		return math.Round(v)
	default:
		return math.Round(v*1e2) / 1e2
	}
}

func milliseconds(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }

// set puts what a pointer points to under a key, and nothing where it is nil.
func set[T any](r row, key string, v *T) {
	if v != nil {
		r[key] = *v
	}
}

func snake(s string) string { return strings.ReplaceAll(s, "-", "_") }
