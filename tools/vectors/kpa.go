package main

import (
	"math"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"k8s.io/apimachinery/pkg/types"

	"knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/autoscaler/scaling"
)

// fixed is a metric client and a pod counter that return fixed values.
type fixed struct {
	stable, panic float64
	err           error
	ready         int
}

func (f *fixed) StableAndPanicConcurrency(types.NamespacedName, time.Time) (float64, float64, error) {
	return f.stable, f.panic, f.err
}

func (f *fixed) StableAndPanicRPS(types.NamespacedName, time.Time) (float64, float64, error) {
	return f.stable, f.panic, f.err
}

func (f *fixed) ReadyCount() (int, error)    { return f.ready, nil }
func (f *fixed) NotReadyCount() (int, error) { return 0, nil }

// decisions lets autoscalers decide repeatedly, on loads that rise, fall, burst and end.
func decisions(t *testing.T, emit func(any)) {
	for seed := range uint64(404) {
		inBubble(t, func(*testing.T) { emit(decisionSequence(newDice(seed))) })
	}
}

func randomDecider(d dice) (scaling.DeciderSpec, row) {
	target := pick(d, 0.01, 0.07, 0.7, 1, 2.1, 7, 10, 70, 70, 100, 140, 1000.5, d.Float64()*50+0.01)
	s := scaling.DeciderSpec{
		ScalingMetric:       pick(d, "concurrency", "rps"),
		TargetValue:         target,
		TotalValue:          pick(d, target, target/0.7, target*2, 100),
		TargetBurstCapacity: pick(d, -1, 0, 211, 211, 1, 10.5, 1000),
		ActivatorCapacity:   100,
		PanicThreshold:      pick(d, 2, 2, 1.1, 1.5, 4, 10),
		MaxScaleUpRate:      pick(d, 1000, 1000, 10, 2, 1.1, 1.001),
		MaxScaleDownRate:    pick(d, 2, 2, 1.1, 1.001, 10, 1000),
		StableWindow:        time.Duration(pick(d, 60, 60, 6, 30, 120)) * time.Second,
		ScaleDownDelay:      time.Duration(pick(d, 0, 0, 1, 2, 30, 60, 61)) * time.Second,
		Reachable:           !d.chance(0.15),
		ActivationScale:     int32(pick(d, 0, 0, 0, 1, 2, 5, 20)),
		InitialScale:        int32(pick(d, 1, 1, 0, 3, 10)),
	}
	return s, deciderRow(s)
}

// deciderRow is what differs from the defaults of an empty ConfigMap.
func deciderRow(s scaling.DeciderSpec) row {
	r := row{
		"scaling_metric": s.ScalingMetric, "target_value": s.TargetValue, "total_value": s.TotalValue,
		"target_burst_capacity": s.TargetBurstCapacity, "panic_threshold": s.PanicThreshold,
		"max_scale_up_rate": s.MaxScaleUpRate, "max_scale_down_rate": s.MaxScaleDownRate,
		"stable_window": s.StableWindow.Seconds(), "scale_down_delay": s.ScaleDownDelay.Seconds(),
		"reachable": s.Reachable, "activation_scale": s.ActivationScale,
	}
	usual := row{
		"scaling_metric": "concurrency", "target_burst_capacity": 211.0, "panic_threshold": 2.0,
		"max_scale_up_rate": 1000.0, "max_scale_down_rate": 2.0, "stable_window": 60.0, "scale_down_delay": 0.0,
		"reachable": true, "activation_scale": int32(0),
	}
	for key, value := range usual {
		if r[key] == value {
			delete(r, key)
		}
	}
	return r
}

func decisionSequence(d dice) row {
	spec, specRow := randomDecider(d)
	source := &fixed{ready: pick(d, 0, 0, 1, 2, 3, 10, 100)}
	start := time.Now()
	time.Sleep(milliseconds(d.between(0, 100_000)))
	created := int(time.Since(start).Milliseconds())
	a := scaling.New(*attribute.EmptySet(), noop.NewMeterProvider(), "ns", "rev", source, source, &spec)
	line := row{"spec": specRow, "created": created, "ready": source.ready}

	load, desired, steps := spec.TargetValue*float64(source.ready), int32(1), []any{}
	at := created
	for range d.between(44, 55) {
		if d.chance(0.02) {
			spec, specRow = randomDecider(d)
			a.Update(&spec)
			steps = append(steps, specRow)
		}
		time.Sleep(milliseconds(pick(d, 2000, 2000, 2000, 2000, 1990, 2017, 0, 10_000, int(spec.StableWindow.Milliseconds()))))
		switch {
		case d.chance(0.12):
			load = d.measured(spec.TargetValue * pick(d, 1., 5, 50, 500))
		case d.chance(0.1):
			load = 0
		case d.chance(0.02):
			load = math.Pow(10, d.Float64()*14)
		}
		source.stable, source.panic, source.err = load, load, nil
		switch {
		case d.chance(0.05):
			source.err = metrics.ErrNoData
		case d.chance(0.5):
			source.stable = d.measured(load * 1.2)
			source.panic = d.measured(load * pick(d, 1., 2, 10))
		case d.chance(0.3):
			// On a whole number of pods, where rounding shows.
			source.stable = spec.TargetValue * float64(d.between(0, 30))
		}
		if d.chance(0.6) { // pods come and go after the last decision
			source.ready += (int(desired) - source.ready) * d.between(0, 4) / 4
			source.ready = max(0, min(source.ready, 1_000_000))
		} else if d.chance(0.05) {
			source.ready = d.between(0, 3)
		}
		result := a.Scale(logger, time.Now())
		passed := int(time.Since(start).Milliseconds()) - at
		at += passed
		step := []any{float64(passed) / 1000, source.stable, source.panic, source.ready}
		switch {
		case source.err != nil:
			step[1], step[2] = nil, nil
		case source.stable == source.panic:
			step[2] = "=" // shorter
		}
		if result.ScaleValid {
			desired = result.DesiredPodCount
			step = append(step, result.DesiredPodCount, result.ExcessBurstCapacity)
		}
		steps = append(steps, step)
	}
	line["steps"] = steps
	return line
}
