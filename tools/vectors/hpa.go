package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/util/feature"
	autoscalinginformers "k8s.io/client-go/informers/autoscaling/v2"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes/fake"
	autoscalingclient "k8s.io/client-go/kubernetes/typed/autoscaling/v2"
	autoscalinglisters "k8s.io/client-go/listers/autoscaling/v2"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/tools/cache"
	defaults "k8s.io/kubernetes/pkg/apis/autoscaling/v2"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	podmetrics "k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
	"k8s.io/kubernetes/pkg/features"
)

// cluster is all that the HPA's controller talks to: metrics, the scale subresource, listers and the API.
type cluster struct {
	autoscalingclient.HorizontalPodAutoscalersGetter
	autoscalingclient.HorizontalPodAutoscalerInterface
	scale.ScalesGetter
	scale.ScaleInterface

	pods, hpas cache.Indexer
	enqueue    cache.ResourceEventHandler

	scale  autoscalingv1.Scale
	status *autoscalingv2.HorizontalPodAutoscalerStatus

	samples map[string]podmetrics.PodMetricsInfo // by metric
	values  map[string][]int64                   // by metric; the first is an object's
}

var errNoMetric = errors.New("no such metric")

func (c *cluster) perPod(name string) (podmetrics.PodMetricsInfo, time.Time, error) {
	samples, ok := c.samples[name]
	if !ok {
		return nil, time.Time{}, errNoMetric
	}
	copied := podmetrics.PodMetricsInfo{} // upstream takes entries out
	for pod, sample := range samples {
		copied[pod] = sample
	}
	return copied, time.Now(), nil
}

func (c *cluster) GetResourceMetric(_ context.Context, name corev1.ResourceName, _ string, _ labels.Selector, _ string) (podmetrics.PodMetricsInfo, time.Time, error) {
	return c.perPod(string(name))
}

func (c *cluster) GetRawMetric(name, _ string, _, _ labels.Selector) (podmetrics.PodMetricsInfo, time.Time, error) {
	return c.perPod(name)
}

func (c *cluster) GetObjectMetric(name, _ string, _ *autoscalingv2.CrossVersionObjectReference, _ labels.Selector) (int64, time.Time, error) {
	values, ok := c.values[name]
	if !ok {
		return 0, time.Time{}, errNoMetric
	}
	return values[0], time.Now(), nil
}

func (c *cluster) GetExternalMetric(name, _ string, _ labels.Selector) ([]int64, time.Time, error) {
	values, ok := c.values[name]
	if !ok {
		return nil, time.Time{}, errNoMetric
	}
	return values, time.Now(), nil
}

func (c *cluster) Scales(string) scale.ScaleInterface { return scales{c: c} }

type scales struct {
	scale.ScaleInterface
	c *cluster
}

func (s scales) Get(context.Context, schema.GroupResource, string, metav1.GetOptions) (*autoscalingv1.Scale, error) {
	return s.c.scale.DeepCopy(), nil
}

func (s scales) Update(_ context.Context, _ schema.GroupResource, to *autoscalingv1.Scale, _ metav1.UpdateOptions) (*autoscalingv1.Scale, error) {
	s.c.scale.Spec = to.Spec
	return to, nil
}

type hpas struct {
	autoscalingclient.HorizontalPodAutoscalerInterface
	c *cluster
}

func (c *cluster) HorizontalPodAutoscalers(string) autoscalingclient.HorizontalPodAutoscalerInterface {
	return hpas{c: c}
}

func (h hpas) UpdateStatus(_ context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, _ metav1.UpdateOptions) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	h.c.status = hpa.Status.DeepCopy()
	// Of the status, the controller reads only who took the last replica.
	kept := hpa.DeepCopy()
	kept.Status.Conditions = slices.DeleteFunc(kept.Status.Conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
		return c.Type != autoscalingv2.ScaledToZero
	})
	return hpa, h.c.hpas.Update(kept)
}

// informer is a shared informer over an index that the test fills.
type informer struct {
	cache.SharedIndexInformer
	c *cluster
}

func (i informer) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, _ time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	i.c.enqueue = h
	return nil, nil
}
func (i informer) HasSynced() bool { return true }

type hpaInformer struct{ c *cluster }

func (i hpaInformer) Informer() cache.SharedIndexInformer { return informer{c: i.c} }
func (i hpaInformer) Lister() autoscalinglisters.HorizontalPodAutoscalerLister {
	return autoscalinglisters.NewHorizontalPodAutoscalerLister(i.c.hpas)
}

type podInformer struct{ c *cluster }

func (i podInformer) Informer() cache.SharedIndexInformer { return informer{c: i.c} }
func (i podInformer) Lister() corev1listers.PodLister     { return corev1listers.NewPodLister(i.c.pods) }

var (
	_ autoscalinginformers.HorizontalPodAutoscalerInformer = hpaInformer{}
	_ coreinformers.PodInformer                            = podInformer{}
	_ podmetrics.MetricsClient                             = &cluster{}
)

func index() cache.Indexer {
	return cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
}

// horizontal lets HPA controllers reconcile, period after period, on changing metrics and pods.
func horizontal(t *testing.T, emit func(any)) {
	for seed := range uint64(145) {
		synctest.Test(t, func(*testing.T) { emit(horizontalSequence(newDice(seed))) })
	}
}

func milli(v int64) *resource.Quantity { return resource.NewMilliQuantity(v, resource.DecimalSI) }

// aim is a metric of an HPA: how it is called, its target, and the range of what is measured.
type aim struct {
	name   string
	perPod bool
	object bool
	target int64
}

func randomMetric(d dice, i int) (autoscalingv2.MetricSpec, row, aim) {
	name := fmt.Sprintf("m%d", i)
	target := pick(d, int64(1), 500, 1000, 70_000, 100_000, int64(d.between(1, 1_000_000)))
	identifier := autoscalingv2.MetricIdentifier{Name: name}
	value := autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: milli(target)}
	average := autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: milli(target)}
	switch d.IntN(8) {
	case 0, 1, 2:
		name = pick(d, "cpu", "cpu", "cpu", "memory")
		percent := int32(pick(d, 1, 50, 70, 80, 100, 150))
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name:   corev1.ResourceName(name),
				Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
			}}, row{"kind": "resource", "name": name, "average_utilization": percent},
			aim{name: name, perPod: true, target: int64(percent) * 10}
	case 3:
		name = pick(d, "cpu", "memory")
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
			Name: corev1.ResourceName(name), Target: average,
		}}, row{"kind": "resource", "name": name, "average_value": target}, aim{name: name, perPod: true, target: target}
	case 4, 5:
		return autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{
			Metric: identifier, Target: average,
		}}, row{"kind": "pods", "average_value": target}, aim{name: name, perPod: true, target: target}
	case 6:
		source := &autoscalingv2.ObjectMetricSource{Metric: identifier, Target: value}
		r := row{"kind": "object", "value": target}
		if d.chance(0.5) {
			source.Target, r = average, row{"kind": "object", "average_value": target}
		}
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ObjectMetricSourceType, Object: source}, r,
			aim{name: name, object: true, target: target}
	default:
		source := &autoscalingv2.ExternalMetricSource{Metric: identifier, Target: value}
		r := row{"kind": "external", "value": target}
		if d.chance(0.5) {
			source.Target, r = average, row{"kind": "external", "average_value": target}
		}
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: source}, r,
			aim{name: name, target: target}
	}
}

func randomRules(d dice) (*autoscalingv2.HPAScalingRules, row) {
	if d.chance(0.1) {
		return nil, row{}
	}
	rules, r := &autoscalingv2.HPAScalingRules{}, row{}
	if v := maybe(d, 0.85, int32(0), 0, 0, 0, 15, 30, 60, 300); v != nil {
		rules.StabilizationWindowSeconds, r["stabilization_window_seconds"] = v, *v
	}
	if v := maybe(d, 0.6, "Max", "Max", "Min", "Min", "Min", "Disabled"); v != nil {
		policy := autoscalingv2.ScalingPolicySelect(*v)
		rules.SelectPolicy, r["select_policy"] = &policy, *v
	}
	if v := maybe(d, 0.4, int64(0), 10, 33, 50, 200, 900); v != nil {
		rules.Tolerance = milli(*v)
		r["tolerance"] = rules.Tolerance.AsApproximateFloat64()
	}
	if d.chance(0.9) {
		all := []any{}
		for range d.between(1, 3) {
			kind := pick(d, "Pods", "Percent", "Percent")
			value := int32(pick(d, 1, 2, 4, 7, 10, 25, 50, 100, 900, math.MaxInt32))
			period := int32(pick(d, 1, 15, 30, 60, 120, 1800))
			rules.Policies = append(rules.Policies, autoscalingv2.HPAScalingPolicy{
				Type: autoscalingv2.HPAScalingPolicyType(kind), Value: value, PeriodSeconds: period,
			})
			all = append(all, []any{kind, value, period})
		}
		r["policies"] = all
	}
	return rules, r
}

func horizontalSequence(d dice) row {
	c := &cluster{pods: index(), hpas: index()}
	period := pick(d, 15, 15, 5, 30)
	config := row{"downscale_stabilization": pick(d, 300, 300, 60, 0), "tolerance": pick(d, 0.1, 0.1, 0.0, 0.05)}
	cpuPeriod, readiness := pick(d, 300, 60), pick(d, 30, 10)
	config["cpu_initialization_period"], config["initial_readiness_delay"] = cpuPeriod, readiness

	hpa := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "hpa"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"},
		},
	}
	low := int32(pick(d, 1, 1, 1, 2, 3, 0))
	hpa.Spec.MinReplicas = &low
	hpa.Spec.MaxReplicas = low + int32(pick(d, 1, 5, 20, 100, 100, 1_000_000))
	spec := row{"min_replicas": low, "max_replicas": hpa.Spec.MaxReplicas}
	aims, metrics := []aim{}, []any{}
	for i := range pick(d, 1, 1, 1, 2, 3) {
		m, r, a := randomMetric(d, i)
		for _, other := range aims {
			if other.name == a.name { // one cpu is enough
				a.name = ""
			}
		}
		if a.name != "" {
			hpa.Spec.Metrics, aims, metrics = append(hpa.Spec.Metrics, m), append(aims, a), append(metrics, r)
		}
	}
	spec["metrics"] = metrics
	// It compares resource versions, which only an API server gives.
	check(feature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{string(features.StaleControllerConsistencyHPA): false}))
	if d.chance(0.8) {
		up, upRow := randomRules(d)
		down, downRow := randomRules(d)
		hpa.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: up, ScaleDown: down}
		spec["behavior"] = row{"scale_up": upRow, "scale_down": downRow}
	}
	defaults.SetDefaults_HorizontalPodAutoscaler(hpa)

	ctx, cancel := context.WithCancel(context.Background())
	defer func() { cancel(); synctest.Wait(); time.Sleep(time.Minute) }()
	mapper := apimeta.NewDefaultRESTMapper([]schema.GroupVersion{{Group: "apps", Version: "v1"}})
	mapper.Add(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, apimeta.RESTScopeNamespace)
	seconds := func(v any) time.Duration { return time.Duration(v.(int)) * time.Second }
	controller := podautoscaler.NewHorizontalController(ctx, fake.NewClientset().CoreV1(), c, c, mapper, c,
		hpaInformer{c}, podInformer{c}, seconds(period), seconds(config["downscale_stabilization"]),
		config["tolerance"].(float64), seconds(cpuPeriod), seconds(readiness))

	w := &world{dice: d, c: c, start: time.Now(), told: map[string]any{}, edge: readiness, settled: cpuPeriod}
	c.scale.Status.Selector = "app=d"
	c.scale.Spec.Replicas = int32(pick(d, 1, 1, 2, 3, 8, 0))
	if d.chance(0.4) { // from many replicas down
		w.draining = true
		c.scale.Spec.Replicas = min(int32(d.between(6, 60)), hpa.Spec.MaxReplicas)
	}
	check(c.hpas.Add(hpa))
	go controller.Run(ctx, 1)

	steps := []any{}
	for i := range d.between(8, 12) {
		// A new HPA is reconciled immediately, and then period after period.
		w.half = seconds(period) / 2
		if i == 0 {
			w.half = 0
		}
		w.turn(aims)
		c.status = nil
		step := row{"t": int((time.Since(w.start) + w.half).Seconds()), "r": c.scale.Spec.Replicas, "s": c.scale.Status.Replicas}
		step["p"], step["m"] = w.pods(aims)
		before := c.scale.Spec.Replicas
		if i == 0 {
			c.enqueue.OnAdd(hpa, true)
		}
		time.Sleep(w.half + time.Millisecond)
		synctest.Wait()
		if c.status == nil {
			panic("not reconciled")
		}
		step["d"] = decided(c, before)
		steps = append(steps, step)
		time.Sleep(seconds(period)/2 - time.Millisecond)
	}
	return row{"spec": spec, "config": config, "steps": steps}
}

// decided is the new number of replicas, why it is limited, whether stabilized, and the usage of each metric.
func decided(c *cluster, before int32) []any {
	var limited any
	stabilized := false
	for _, condition := range c.status.Conditions {
		switch condition.Type {
		case autoscalingv2.ScalingLimited:
			limited = condition.Reason
		case autoscalingv2.AbleToScale:
			stabilized = condition.Reason == "ScaleUpStabilized" || condition.Reason == "ScaleDownStabilized"
		}
	}
	usages := []any{}
	for _, m := range c.status.CurrentMetrics {
		var v autoscalingv2.MetricValueStatus
		switch {
		case m.Resource != nil:
			v = m.Resource.Current
		case m.Pods != nil:
			v = m.Pods.Current
		case m.Object != nil:
			v = m.Object.Current
		case m.External != nil:
			v = m.External.Current
		default:
			usages = append(usages, nil)
			continue
		}
		q := v.AverageValue
		if q == nil {
			q = v.Value
		}
		usage := []any{q.MilliValue()}
		if v.AverageUtilization != nil {
			usage = append(usage, *v.AverageUtilization)
		}
		usages = append(usages, usage)
	}
	// A rescale overwrites the reason, so a stabilized one shows only where nothing was rescaled.
	var stable any = stabilized
	if c.scale.Spec.Replicas != before {
		stable = nil
	}
	return []any{c.scale.Spec.Replicas, limited, stable, usages}
}

// world is the pods of a deployment and the load on them.
type world struct {
	dice
	c        *cluster
	start    time.Time
	next     int
	list     []*corev1.Pod
	told     map[string]any
	draining bool          // scaled far up, with little load
	half     time.Duration // until the reconciliation
	settled  int           // the age in seconds from which on a pod's cpu is believed
	edge     int           // seconds after its start up to which a pod counts as never ready
	load     float64
}

func (w *world) now() int { return int(time.Since(w.start).Seconds()) }

// turn makes pods follow the scale, and changes what some are and what is measured.
func (w *world) turn(aims []aim) {
	d := w.dice
	if d.chance(0.04) {
		w.c.scale.Spec.Replicas = int32(d.between(0, 12)) // someone else's doing
	}
	want := min(int(w.c.scale.Spec.Replicas), 9)
	if len(w.list) > want && d.chance(0.8) {
		w.list = w.list[len(w.list)-want:]
	}
	for len(w.list) < want {
		w.next++
		age := d.between(0, 400)
		if d.chance(0.1) { // as old as pods are when their cpu is believed
			age = w.settled - int(w.half.Seconds()+0.5)
		}
		start := metav1.NewTime(w.start.Add(time.Duration(w.now()-age) * time.Second))
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprintf("p%d", w.next), Labels: map[string]string{"app": "d"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}, {Name: "b"}}},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &start},
		}
		request := int64(pick(d, 100, 250, 1000, 3000))
		for i, share := range []int64{request - request/3, request / 3} {
			pod.Spec.Containers[i].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: *milli(share), corev1.ResourceMemory: *milli(share)}
		}
		if d.chance(0.005) {
			pod.Spec.Containers[1].Resources.Requests = nil
		}
		w.ready(pod, corev1.ConditionTrue, d.between(0, 60))
		w.list = append(w.list, pod)
	}
	for _, pod := range w.list {
		if !d.chance(0.15) {
			continue
		}
		pod.DeletionTimestamp = nil
		pod.Status.Phase = pick(d, corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodPending, corev1.PodFailed)
		if d.chance(0.1) {
			now := metav1.Now()
			pod.DeletionTimestamp = &now
		}
		w.ready(pod, pick(d, corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionFalse, corev1.ConditionUnknown), -d.between(0, 200))
		if d.chance(0.2) {
			w.ready(pod, corev1.ConditionFalse, w.edge+d.between(-1, 1))
		}
		if d.chance(0.1) {
			pod.Status.Conditions = nil
		}
		if d.chance(0.05) {
			pod.Status.StartTime = nil
		}
	}
	check(w.c.pods.Replace(nil, ""))
	for _, pod := range w.list {
		check(w.c.pods.Add(pod.DeepCopy()))
	}
	w.c.scale.Status.Replicas = int32(len(w.list))
	if d.chance(0.03) {
		w.c.scale.Status.Replicas = 0
	}
	if w.draining && d.chance(0.6) {
		w.load = pick(d, 0, 0.1, 0.2, 0.3, 0.5, 0.9)
	}
	if !w.draining && (w.load == 0 || d.chance(0.4)) {
		w.load = pick(d, 0, 0.2, 0.3, 0.5, 0.9, 0.95, 1, 1.05, 1.11, 1.5, 2, 10)
	}
	w.measure(aims)
}

// ready sets the condition, last changed `after` seconds after the start (before now, where negative).
func (w *world) ready(pod *corev1.Pod, status corev1.ConditionStatus, after int) {
	at := w.now() + after
	if after >= 0 && pod.Status.StartTime != nil {
		at = int(pod.Status.StartTime.Sub(w.start).Seconds()) + after
	}
	pod.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(w.start.Add(time.Duration(at) * time.Second)),
	}}
}

func (w *world) measure(aims []aim) {
	d := w.dice
	w.c.samples, w.c.values = map[string]podmetrics.PodMetricsInfo{}, map[string][]int64{}
	for _, a := range aims {
		if d.chance(0.04) {
			continue // the metrics API is down
		}
		huge := d.chance(0.01)
		amount := func() int64 {
			if huge {
				return math.MaxInt64/2 + int64(d.IntN(1000))
			}
			v := int64(float64(a.target) * w.load)
			if d.chance(0.5) {
				v = int64(float64(v) * (0.8 + 0.4*d.Float64()))
			}
			return v
		}
		if !a.perPod {
			replicas := int64(max(1, len(w.list)))
			if huge || d.chance(0.5) {
				replicas = 1
			}
			values := []int64{amount() * replicas}
			if !a.object {
				for range d.IntN(3) {
					values = append(values, amount())
				}
			}
			w.c.values[a.name] = values
			continue
		}
		samples := podmetrics.PodMetricsInfo{}
		for _, pod := range w.list {
			if d.chance(0.08) {
				continue
			}
			v := amount()
			if a.name == "cpu" && !huge {
				v = v * pod.Spec.Containers[0].Resources.Requests.Cpu().MilliValue() * 3 / 2 / 1000
			}
			sample := podmetrics.PodMetric{
				Value: v, Timestamp: w.start.Add(time.Duration(w.now()-d.between(0, 60)) * time.Second),
				Window: time.Duration(pick(d, 15, 30, 60)) * time.Second,
			}
			if len(pod.Status.Conditions) > 0 && d.chance(0.15) { // just what the pod has been ready for
				sample.Timestamp = pod.Status.Conditions[0].LastTransitionTime.Add(sample.Window)
			}
			samples[pod.Name] = sample
		}
		if d.chance(0.03) {
			samples["stray"] = podmetrics.PodMetric{Value: amount(), Timestamp: time.Now(), Window: time.Minute}
		}
		w.c.samples[a.name] = samples
	}
}

// pods is what has changed of the pods, by name, null for one that is gone, and what is measured, metric by metric.
func (w *world) pods(aims []aim) (row, []any) {
	pods := row{}
	for name := range w.told {
		pods[name] = nil
	}
	for _, pod := range w.list {
		phase := string(pod.Status.Phase)
		if pod.DeletionTimestamp != nil {
			phase = "deleted " + phase
		}
		var ready, since, start, request any
		if len(pod.Status.Conditions) > 0 {
			ready = string(pod.Status.Conditions[0].Status)
			since = int(pod.Status.Conditions[0].LastTransitionTime.Sub(w.start).Seconds())
		}
		if pod.Status.StartTime != nil {
			start = int(pod.Status.StartTime.Sub(w.start).Seconds())
		}
		if second := pod.Spec.Containers[1].Resources.Requests; second != nil {
			request = pod.Spec.Containers[0].Resources.Requests.Cpu().MilliValue() + second.Cpu().MilliValue()
		}
		state := []any{phase, ready, since, start, request}
		pods[pod.Name] = state
		if reflect.DeepEqual(w.told[pod.Name], state) {
			delete(pods, pod.Name)
		}
		w.told[pod.Name] = state
	}
	for name, state := range pods {
		if state == nil {
			delete(w.told, name)
		}
	}
	measured := []any{}
	for _, a := range aims {
		samples, perPod := w.c.samples[a.name]
		values, others := w.c.values[a.name]
		switch {
		case perPod:
			all := row{}
			for pod, s := range samples {
				all[pod] = s.Value
				if a.name == "cpu" { // of no other metric the time counts
					all[pod] = []any{s.Value, int(s.Timestamp.Sub(w.start).Seconds()), int(s.Window.Seconds())}
				}
			}
			measured = append(measured, all)
		case others && a.object:
			measured = append(measured, values[0])
		case others:
			measured = append(measured, values)
		default:
			measured = append(measured, nil)
		}
	}
	return pods, measured
}
