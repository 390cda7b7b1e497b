package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	autoscalingv1alpha1 "knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	asconfig "knative.dev/serving/pkg/autoscaler/config"
	"knative.dev/serving/pkg/autoscaler/config/autoscalerconfig"
	"knative.dev/serving/pkg/autoscaler/scaling"
	kparesources "knative.dev/serving/pkg/reconciler/autoscaling/kpa/resources"
	"knative.dev/serving/pkg/reconciler/autoscaling/resources"
)

// randomConfig is a ConfigMap's data and the same in our names; progress-deadline is config-deployment's.
func randomConfig(d dice) (map[string]string, row) {
	data, r := map[string]string{}, row{}
	put := func(p float64, key string, values ...float64) {
		if v := maybe(d, p, values...); v != nil {
			data[key] = strconv.FormatFloat(*v, 'g', -1, 64)
			r[snake(strings.Replace(key, "requests-per-second", "rps", 1))] = *v
		}
	}
	seconds := func(p float64, key string, values ...int) {
		if v := maybe(d, p, values...); v != nil {
			data[key] = fmt.Sprintf("%ds", *v)
			r[snake(key)] = *v
		}
	}
	put(0.3, "container-concurrency-target-default", 1, 10, 50.5, 200)
	put(0.3, "requests-per-second-target-default", 1, 10.11, 500)
	put(0.3, "target-burst-capacity", -1, 0, 1, 70, 500)
	put(0.2, "activator-capacity", 1, 50, 1000)
	put(0.2, "max-scale-up-rate", 1.5, 10)
	put(0.2, "max-scale-down-rate", 1.5, 10)
	put(0.2, "panic-window-percentage", 1, 20, 33.3, 100)
	put(0.2, "panic-threshold-percentage", 110, 333.3)
	seconds(0.4, "stable-window", 6, 17, 30, 300)
	seconds(0.3, "scale-down-delay", 10, 60)
	seconds(0.4, "scale-to-zero-grace-period", 1, 10, 60)
	seconds(0.3, "scale-to-zero-pod-retention-period", 5, 42, 120)
	if d.chance(0.15) {
		data["enable-scale-to-zero"], r["enable_scale_to_zero"] = "false", false
	}
	if v := maybe(d, 0.3, 0.5, 0.71, 1); v != nil {
		data["container-concurrency-target-percentage"] = strconv.FormatFloat(*v, 'g', -1, 64)
		r["container_concurrency_target_fraction"] = *v
	}
	whole := func(p float64, key string, values ...int) {
		if v := maybe(d, p, values...); v != nil {
			data[key], r[snake(key)] = strconv.Itoa(*v), *v
		}
	}
	if d.chance(0.3) {
		data["allow-zero-initial-scale"], r["allow_zero_initial_scale"] = "true", true
		whole(0.5, "initial-scale", 0, 1, 3)
	} else {
		whole(0.3, "initial-scale", 1, 2, 5)
	}
	whole(0.2, "min-scale", 1, 2)
	whole(0.2, "max-scale", 5, 20)
	return data, r
}

// randomAutoscaler is a PodAutoscaler and what makes it so, in our names.
func randomAutoscaler(d dice) (*autoscalingv1alpha1.PodAutoscaler, row) {
	r, annotations := row{}, map[string]string{"autoscaling.knative.dev/class": "kpa.autoscaling.knative.dev"}
	annotate := func(key string, value any, text string) {
		annotations["autoscaling.knative.dev/"+key] = text
		r[snake(key)] = value
	}
	number := func(p float64, key string, values ...float64) {
		if v := maybe(d, p, values...); v != nil {
			annotate(key, *v, strconv.FormatFloat(*v, 'g', -1, 64))
		}
	}
	seconds := func(p float64, key string, values ...int) {
		if v := maybe(d, p, values...); v != nil {
			annotate(key, *v, fmt.Sprintf("%ds", *v))
		}
	}
	if v := maybe(d, 0.7, "concurrency", "rps"); v != nil {
		annotate("metric", *v, *v)
	}
	number(0.5, "target", 0.01, 0.5, 1, 7, 70, 1000)
	number(0.4, "target-utilization-percentage", 1, 33.3, 70, 80, 100)
	number(0.4, "target-burst-capacity", -1, -1, 0, 10, 211)
	number(0.4, "min-scale", 0, 1, 2, 5)
	number(0.4, "max-scale", 0, 5, 6, 50)
	number(0.4, "initial-scale", 0, 1, 2, 10)
	number(0.3, "activation-scale", 2, 5)
	number(0.3, "panic-window-percentage", 1, 5, 12.5, 33.3, 100)
	number(0.3, "panic-threshold-percentage", 110, 150.5, 1000)
	seconds(0.4, "window", 6, 15, 61, 3600)
	seconds(0.3, "scale-down-delay", 0, 1, 90)
	seconds(0.3, "scale-to-zero-pod-retention-period", 0, 10, 42, 100)
	if v := maybe(d, 0.4, 0, 30, 121); v != nil {
		annotations["serving.knative.dev/progress-deadline"] = fmt.Sprintf("%ds", *v)
		r["progress_deadline"] = *v
	}
	pa := &autoscalingv1alpha1.PodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "rev", Generation: 1, UID: "1", Annotations: annotations},
	}
	if v := maybe(d, 0.5, int64(0), 1, 3, 10, 100); v != nil {
		pa.Spec.ContainerConcurrency, r["container_concurrency"] = *v, *v
	}
	switch {
	case d.chance(0.15):
		pa.Spec.Reachability, r["reachable"] = autoscalingv1alpha1.ReachabilityUnreachable, false
	case d.chance(0.5):
		pa.Spec.Reachability = autoscalingv1alpha1.ReachabilityReachable
	}
	return pa, r
}

// idle is a scaler that is never asked.
type idle struct{ scaling.UniScaler }

// targets resolves annotations and ConfigMaps, and makes new deciders.
func targets(_ *testing.T, emit func(any)) {
	stop := make(chan struct{})
	defer close(stop)
	for seed := range uint64(180) {
		d := newDice(seed)
		data, configRow := randomConfig(d)
		config, err := asconfig.NewConfigFromMap(data)
		check(err)
		pa, paRow := randomAutoscaler(d)
		emit(row{"config": configRow, "revision": paRow, "want": resolved(pa, config, stop)})
	}
}

func resolved(pa *autoscalingv1alpha1.PodAutoscaler, config *autoscalerconfig.Config, stop chan struct{}) row {
	decider := kparesources.MakeDecider(pa, config)
	metric := resources.MakeMetric(pa, "svc", config)
	low, high := pa.ScaleBounds(config)
	scalers := scaling.NewMultiScaler(stop, func(*scaling.Decider) (scaling.UniScaler, error) { return idle{}, nil }, logger)
	created, err := scalers.Create(context.Background(), decider)
	check(err)
	s := decider.Spec
	return row{
		"decider": []any{
			s.ScalingMetric, s.TargetValue, s.TotalValue, s.TargetBurstCapacity, s.ActivatorCapacity, s.MaxScaleUpRate,
			s.MaxScaleDownRate, s.PanicThreshold, s.StableWindow.Seconds(), s.ScaleDownDelay.Seconds(), s.Reachable,
			s.ActivationScale, s.InitialScale,
		},
		"bounds": []int32{low, high},
		"panic":  metric.Spec.PanicWindow.Seconds(),
		"status": []int32{created.Status.DesiredScale, created.Status.ExcessBurstCapacity},
	}
}
