package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	k8serrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	clientgotesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	netcfg "knative.dev/networking/pkg/config"

	nv1alpha1 "knative.dev/networking/pkg/apis/networking/v1alpha1"
	netclient "knative.dev/networking/pkg/client/injection/client/fake"
	sksinformer "knative.dev/networking/pkg/client/injection/informers/networking/v1alpha1/serverlessservice/fake"
	"knative.dev/pkg/apis"
	podinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/pod/filtered/fake"
	filtered "knative.dev/pkg/client/injection/kube/informers/factory/filtered"
	_ "knative.dev/pkg/client/injection/kube/informers/factory/filtered/fake"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	dynamicclient "knative.dev/pkg/injection/clients/dynamicclient/fake"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/network"
	"knative.dev/pkg/reconciler"
	"knative.dev/pkg/system"
	"knative.dev/serving/pkg/activator"
	autoscalingv1alpha1 "knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	"knative.dev/serving/pkg/apis/serving"
	asconfig "knative.dev/serving/pkg/autoscaler/config"
	"knative.dev/serving/pkg/autoscaler/scaling"
	servingclient "knative.dev/serving/pkg/client/injection/client/fake"
	podscalable "knative.dev/serving/pkg/client/injection/ducks/autoscaling/v1alpha1/podscalable/fake"
	metricinformer "knative.dev/serving/pkg/client/injection/informers/autoscaling/v1alpha1/metric/fake"
	painformer "knative.dev/serving/pkg/client/injection/informers/autoscaling/v1alpha1/podautoscaler/fake"
	"knative.dev/serving/pkg/deployment"
	"knative.dev/serving/pkg/reconciler/autoscaling/kpa"
	"knative.dev/serving/pkg/reconciler/autoscaling/resources"
)

// oneDecider is a store of one decider, whose status the test sets.
type oneDecider struct {
	decider *scaling.Decider
	status  scaling.DeciderStatus
}

func (o *oneDecider) Get(_ context.Context, _, name string) (*scaling.Decider, error) {
	if o.decider == nil {
		return nil, k8serrors.NewNotFound(schema.GroupResource{}, name)
	}
	o.decider.Status = o.status
	return o.decider, nil
}

func (o *oneDecider) Create(ctx context.Context, d *scaling.Decider) (*scaling.Decider, error) {
	return o.Update(ctx, d)
}

func (o *oneDecider) Update(_ context.Context, d *scaling.Decider) (*scaling.Decider, error) {
	o.decider = d.DeepCopy()
	o.decider.Status = o.status
	return o.decider, nil
}
func (o *oneDecider) Delete(context.Context, string, string) {}
func (o *oneDecider) Watch(func(types.NamespacedName))       {}

// reconciliations drives the reconciler of class KPA through the lives of revisions.
func reconciliations(t *testing.T, emit func(any)) {
	check(os.Setenv(system.NamespaceEnvKey, "knative-serving"))
	for seed := range uint64(50) {
		synctest.Test(t, func(*testing.T) { emit(life(newDice(seed))) })
	}
}

func configMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system.Namespace(), Name: name}, Data: data}
}

var deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}

func life(d dice) row {
	ctx, cancel := context.WithCancel(logging.WithLogger(context.Background(), logger))
	ctx = controller.WithEventRecorder(ctx, record.NewFakeRecorder(1_000_000))
	ctx = filtered.WithSelectors(ctx, serving.RevisionUID)
	ctx = injection.WithConfig(ctx, &rest.Config{})
	ctx, _ = injection.Fake.SetupInformers(ctx, injection.GetConfig(ctx))

	// The one connection that the reconciler makes itself is the probe, which an activator answers, or a pod.
	probed := false
	network.DialWithBackOff = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go answer(theirs, probed)
		return ours, nil
	}

	data, configRow := randomConfig(d)
	deadline := pick(d, 600, 600, 30, 90)
	configRow["progress_deadline"] = deadline
	pa, paRow := randomAutoscaler(d)
	pa.Labels = map[string]string{serving.RevisionLabelKey: "rev"}
	pa.Spec.ScaleTargetRef = corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"}
	deciders := &oneDecider{}
	impl := kpa.NewController(ctx, configmap.NewStaticWatcher(
		configMap(asconfig.ConfigName, data),
		configMap(deployment.ConfigName, map[string]string{
			deployment.QueueSidecarImageKey: "queue", deployment.ProgressDeadlineKey: fmt.Sprintf("%ds", deadline),
		}),
		configMap(netcfg.ConfigMapName, nil),
	), deciders)
	check(impl.Reconciler.(reconciler.LeaderAware).Promote(reconciler.UniversalBucket(), func(reconciler.Bucket, types.NamespacedName) {}))
	// Upstream never stops the watch below its own, and a bubble waits for all that it started.
	watcher := watch.NewFakeWithChanSize(1000, false)
	dynamicclient.Get(ctx).PrependWatchReactor("*", func(clientgotesting.Action) (bool, watch.Interface, error) {
		return true, watcher, nil
	})
	defer func() {
		synctest.Wait()
		watcher.Stop()
		synctest.Wait()
		cancel()
		impl.WorkQueue().ShutDown()
		time.Sleep(time.Hour) // probes time out
	}()

	_, err := servingclient.Get(ctx).AutoscalingV1alpha1().PodAutoscalers("ns").Create(ctx, pa, metav1.CreateOptions{})
	check(err)
	replicas := d.between(0, 3)
	w := &revision{dice: d, ctx: ctx, impl: impl, pa: pa, deciders: deciders, replicas: replicas, watcher: watcher}
	_, err = dynamicclient.Get(ctx).Resource(deployments).Namespace("ns").Create(ctx, w.deployment(), metav1.CreateOptions{})
	check(err)
	// The informer's start takes a moment of the clock, now one, now none.
	_, _, err = podscalable.Get(ctx).Get(ctx, deployments)
	check(err)
	time.Sleep(time.Second - time.Duration(time.Now().Nanosecond()))
	w.waits = append(w.waits, 30)
	for key, value := range configRow {
		if strings.HasPrefix(key, "scale_to_zero_") {
			w.waits = append(w.waits, value.(int))
		}
	}
	if own, ok := paRow["scale_to_zero_pod_retention_period"]; ok {
		w.waits = append(w.waits, own.(int))
	}
	slices.Sort(w.waits)
	w.start, w.desired, w.mode = time.Now(), -1, nv1alpha1.SKSOperationModeProxy
	steps := []any{}
	for range d.between(24, 36) {
		w.turn(&probed)
		steps = append(steps, w.reconcile(probed))
	}
	return row{"config": configRow, "revision": paRow, "steps": steps}
}

func answer(conn net.Conn, probed bool) {
	defer conn.Close()
	buffer := make([]byte, 4096)
	for text := []byte{}; !bytes.Contains(text, []byte("\r\n\r\n")); {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		text = append(text, buffer[:n]...)
	}
	body := "queue"
	if probed {
		body = activator.Name
	}
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", http.StatusOK, len(body), body)
}

// revision is what the reconciler sees of one: load, pods, and the way of its requests.
type revision struct {
	dice
	ctx      context.Context
	impl     *controller.Impl
	start    time.Time
	pa       *autoscalingv1alpha1.PodAutoscaler
	deciders *oneDecider
	watcher  *watch.FakeWatcher

	desired, ebc    int32
	replicas, ready int
	mode            nv1alpha1.ServerlessServiceOperationMode
	proxySince      int // seconds, -1: pods are in the path
	networked       bool
	waits           []int // seconds that something takes: grace, retention
}

func (w *revision) now() int { return int(time.Since(w.start).Seconds()) }

func (w *revision) deployment() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"namespace": "ns", "name": "d"},
		"spec": map[string]any{"replicas": int64(w.replicas), "selector": map[string]any{}},
	}}
}

// turn lets time pass and things change.
func (w *revision) turn(probed *bool) {
	d := w.dice
	time.Sleep(milliseconds(pick(d, 0, 0, 0, 1000, 2000, 2000, 1700, 5000, 10_000, 29_600, 30_000, 60_000, 61_000, 200_000, 700_000)))
	waited := d.chance(0.4)
	if waited { // on the edge of one
		since := time.Duration(w.proxySince) * time.Second
		if active := w.pa.Status.GetCondition(autoscalingv1alpha1.PodAutoscalerConditionActive); active != nil && d.chance(0.6) {
			since = active.LastTransitionTime.Inner.Sub(w.start)
		}
		edge := since + time.Duration(pick(d, w.waits...))*time.Second
		time.Sleep(max(0, edge-time.Since(w.start)))
		if d.chance(0.7) {
			w.desired, *probed = 0, true
		}
	}
	if !waited && d.chance(0.3) {
		w.desired = int32(pick(d, -1, 0, 0, 0, 0, 1, 2, 7, 30))
	}
	if d.chance(0.3) {
		w.ebc = int32(pick(d, -100, -1, 0, 5))
	}
	switch {
	case d.chance(0.5):
		w.ready = w.replicas
	case d.chance(0.3):
		w.ready = d.between(0, w.replicas+1)
	}
	if !waited && d.chance(0.3) {
		*probed = !*probed
	}
	if d.chance(0.4) {
		w.networked = true
	} else if d.chance(0.02) {
		w.networked = false
	}
}

func (w *revision) reconcile(probed bool) []any {
	ctx := w.ctx
	// The state to which the service's own reconciler would have brought the mode by now.
	if w.mode == nv1alpha1.SKSOperationModeServe && w.chance(0.7) {
		w.proxySince = -1
	} else if w.mode == nv1alpha1.SKSOperationModeProxy && (w.proxySince < 0 && w.chance(0.7)) {
		w.proxySince = w.now()
	}
	sks := resources.MakeSKS(w.pa, w.mode, 2)
	sks.Status.InitializeConditions()
	if w.networked {
		sks.Status.ServiceName, sks.Status.PrivateServiceName = "rev", "rev-private"
	}
	if w.proxySince >= 0 {
		sks.Status.MarkActivatorEndpointsPopulated()
		for i := range sks.Status.Conditions {
			sks.Status.Conditions[i].LastTransitionTime = apis.VolatileTime{Inner: metav1.NewTime(w.start.Add(time.Duration(w.proxySince) * time.Second))}
		}
	} else {
		sks.Status.MarkActivatorEndpointsRemoved()
	}
	indexed := sksinformer.Get(ctx).Informer().GetIndexer()
	check(indexed.Replace([]any{sks}, ""))
	networking := netclient.Get(ctx)
	_ = networking.NetworkingV1alpha1().ServerlessServices("ns").Delete(ctx, sks.Name, metav1.DeleteOptions{})
	_, err := networking.NetworkingV1alpha1().ServerlessServices("ns").Create(ctx, sks, metav1.CreateOptions{})
	check(err)
	check(painformer.Get(ctx).Informer().GetIndexer().Replace([]any{w.pa}, ""))
	pods := []any{}
	for i := range w.ready {
		pods = append(pods, readyPod(i, time.Now()))
	}
	check(podinformer.Get(ctx, serving.RevisionUID).Informer().GetIndexer().Replace(pods, ""))
	check(metricinformer.Get(ctx).Informer().GetIndexer().Replace([]any{}, ""))
	_ = servingclient.Get(ctx).AutoscalingV1alpha1().Metrics("ns").Delete(ctx, "rev", metav1.DeleteOptions{})
	synctest.Wait()

	w.deciders.status = scaling.DeciderStatus{DesiredScale: w.desired, ExcessBurstCapacity: w.ebc}
	line := []any{time.Since(w.start).Seconds(), w.desired, w.ebc, w.replicas, w.ready, w.mode, nil, probed, w.networked}
	if w.proxySince >= 0 {
		line[6] = w.proxySince
	}
	dynamic := dynamicclient.Get(ctx)
	dynamic.ClearActions()
	networking.ClearActions()
	check(w.impl.Reconciler.Reconcile(ctx, "ns/rev"))
	synctest.Wait()

	var scaleTo any
	for _, action := range dynamic.Actions() {
		if patch, ok := action.(clientgotesting.PatchAction); ok {
			var ops []struct{ Value int }
			check(json.Unmarshal(patch.GetPatch(), &ops))
			scaleTo, w.replicas = ops[0].Value, ops[0].Value
			w.watcher.Modify(w.deployment())
		}
	}
	made, err := networking.NetworkingV1alpha1().ServerlessServices("ns").Get(ctx, sks.Name, metav1.GetOptions{})
	check(err)
	w.mode = made.Spec.Mode
	stored, err := servingclient.Get(ctx).AutoscalingV1alpha1().PodAutoscalers("ns").Get(ctx, "rev", metav1.GetOptions{})
	check(err)
	// Stored as the API returns it, with times to the second.
	text, err := json.Marshal(stored)
	check(err)
	w.pa = &autoscalingv1alpha1.PodAutoscaler{}
	check(json.Unmarshal(text, w.pa))
	active := w.pa.Status.GetCondition(autoscalingv1alpha1.PodAutoscalerConditionActive)
	return append(line,
		active.Status, active.Reason, int(active.LastTransitionTime.Inner.Sub(w.start).Seconds()),
		w.pa.Status.IsScaleTargetInitialized(), w.pa.Status.GetDesiredScale(), scaleTo, made.Spec.Mode, made.Spec.NumActivators)
}
