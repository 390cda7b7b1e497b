package main

import (
	"math"
	"testing"
	"time"

	"knative.dev/serving/pkg/autoscaler/aggregation"
	"knative.dev/serving/pkg/autoscaler/aggregation/max"
)

type buckets interface {
	Record(time.Time, float64)
	ResizeWindow(time.Duration)
	WindowAverage(time.Time) float64
	IsEmpty(time.Time) bool
}

// windows records and reads at rising times, with gaps, late records and changes of length.
func windows(t *testing.T, emit func(any)) {
	// All lengths that weights depend on, and two beyond.
	for seconds := 1; seconds <= 43; seconds++ {
		b := aggregation.NewWeightedFloat64Buckets(time.Duration(seconds)*time.Second, time.Second)
		at := time.Unix(86400, 0)
		b.Record(at, 1)
		emit(row{"kind": "weighted", "window": seconds, "granularity": 1, "steps": []any{
			[]any{"r", 86400000, 1}, []any{"a", 86400000, b.WindowAverage(at)},
		}})
	}
	for seed := range uint64(205) {
		inBubble(t, func(*testing.T) { emit(windowSequence(newDice(seed))) })
	}
	for seed := range uint64(20) {
		emit(maxSequence(newDice(seed)))
	}
}

func windowSequence(d dice) row {
	granularity := pick(d, 1, 1, 1, 2, 3, 5)
	window := pick(d, 1, 2, 5, 6, 7, 10, 12, 30, 60, 61, 100, 600)
	first := window
	var b buckets
	kind := pick(d, "timed", "timed", "weighted")
	if kind == "timed" {
		b = aggregation.NewTimedFloat64Buckets(time.Duration(window)*time.Second, time.Duration(granularity)*time.Second)
	} else {
		b = aggregation.NewWeightedFloat64Buckets(time.Duration(window)*time.Second, time.Duration(granularity)*time.Second)
	}
	start := time.Now()
	steps := []any{}
	sleep := func(ms int) { time.Sleep(milliseconds(ms)) }
	now := func() int { return int(time.Since(start).Milliseconds()) }
	sleep(d.between(0, 3_600_000))
	if d.chance(0.3) {
		steps = append(steps, []any{"a", now(), b.WindowAverage(time.Now())}, []any{"e", now(), b.IsEmpty(time.Now())})
	}
	scale := pick(d, 1., 10, 1000, 1e9)
	for range d.between(36, 46) {
		switch {
		case d.chance(0.04):
			sleep(d.between(1, 2*window*1000)) // a gap
		case d.chance(0.02):
			// Exactly to the edge of the window.
			sleep(window * 1000)
		case d.chance(0.5):
			sleep(1000)
		default:
			sleep(d.between(0, 3000*granularity))
		}
		switch at := time.Now(); {
		case d.chance(0.55):
			if d.chance(0.1) { // late, or too late
				at = at.Add(-milliseconds(d.between(0, 1300*window)))
			}
			v := d.measured(scale)
			if d.chance(0.05) {
				v = -v
			}
			b.Record(at, v)
			steps = append(steps, []any{"r", int(at.Sub(start).Milliseconds()), v})
		case d.chance(0.03):
			window = pick(d, 1, 3, 6, 10, 12, 30, 60, 90, 600)
			b.ResizeWindow(time.Duration(window) * time.Second)
			steps = append(steps, []any{"w", now(), window})
		case d.chance(0.1):
			steps = append(steps, []any{"e", now(), b.IsEmpty(at)})
		default:
			average := b.WindowAverage(at)
			if math.IsNaN(average) || math.IsInf(average, 0) {
				panic("not a number")
			}
			steps = append(steps, []any{"a", now(), average})
		}
	}
	return row{"kind": kind, "window": first, "granularity": granularity, "steps": steps}
}

func maxSequence(d dice) row {
	window, granularity := d.between(1, 40), pick(d, 1, 2, 2, 5)
	w := max.NewTimeWindow(time.Duration(window)*time.Second, time.Duration(granularity)*time.Second)
	steps, ms := []any{}, d.between(0, 100_000)
	for range d.between(40, 60) {
		ms += pick(d, 0, 500, 1000, 2000, 2000, 2000, 3100, 9000)
		v := int32(d.between(-2, 20))
		w.Record(time.UnixMilli(int64(ms)), v)
		steps = append(steps, []any{"m", ms, v, w.Current()})
	}
	return row{"kind": "max", "window": window, "granularity": granularity, "steps": steps}
}
