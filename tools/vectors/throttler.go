package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	coreinformers "k8s.io/client-go/informers/core/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	netcfg "knative.dev/networking/pkg/config"
	endpointsinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/endpoints"
	serviceinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/service"
	"knative.dev/pkg/logging"
	activatornet "knative.dev/serving/pkg/activator/net"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	servinginformers "knative.dev/serving/pkg/client/informers/externalversions/serving/v1"
	revisioninformer "knative.dev/serving/pkg/client/injection/informers/serving/v1/revision"
	servinglisters "knative.dev/serving/pkg/client/listers/serving/v1"
	"knative.dev/serving/pkg/networking"
	"knative.dev/serving/pkg/queue"
)

// told is a shared informer whose events the test sends.
type told struct {
	cache.SharedIndexInformer
	handlers *[]cache.ResourceEventHandler
}

func (i told) AddEventHandler(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	*i.handlers = append(*i.handlers, h)
	return nil, nil
}

type endpointsTold struct {
	coreinformers.EndpointsInformer
	told
}

func (i endpointsTold) Informer() cache.SharedIndexInformer { return i.told }

type revisionsTold struct {
	servinginformers.RevisionInformer
	told
	index cache.Indexer
}

func (i revisionsTold) Informer() cache.SharedIndexInformer { return i.told }
func (i revisionsTold) Lister() servinglisters.RevisionLister {
	return servinglisters.NewRevisionLister(i.index)
}

type servicesTold struct {
	coreinformers.ServiceInformer
	index cache.Indexer
}

func (i servicesTold) Lister() corev1listers.ServiceLister {
	return corev1listers.NewServiceLister(i.index)
}

// alive answers every probe as a queue-proxy does.
type alive struct{}

func (alive) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(queue.Name))}, nil
}

// throttlers lets requests arrive at activators and leave, one at a time.
func throttlers(t *testing.T, emit func(any)) {
	for seed := range uint64(60) {
		synctest.Test(t, func(*testing.T) { emit(throttler(newDice(seed))) })
	}
}

func endpoints(kind networking.ServiceType, port int32, first, count int) *corev1.Endpoints {
	subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Name: "http", Port: port}}}
	for i := range count {
		subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: fmt.Sprintf("10.0.0.%d", first+i)})
	}
	return &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "rev-" + string(kind),
			Labels: map[string]string{
				networking.ServiceTypeKey: string(kind), serving.RevisionLabelKey: "rev", serving.RevisionUID: "1",
			},
		},
		Subsets: []corev1.EndpointSubset{subset},
	}
}

func throttler(d dice) row {
	limit, pods, activators := int64(pick(d, 0, 1, 2, 3, 4, 5, 7)), d.between(0, 9), d.between(0, 5)
	self, mesh := d.between(0, activators), d.chance(0.3)
	mode := netcfg.MeshCompatibilityModeDisabled
	if mesh {
		mode = netcfg.MeshCompatibilityModeEnabled
	}

	revision := &servingv1.Revision{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "rev"}}
	revision.Spec.ContainerConcurrency = &limit
	revision.Spec.Containers = []corev1.Container{{Name: "c"}}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "rev-private"},
		Spec: corev1.ServiceSpec{ClusterIP: "10.0.1.1", Ports: []corev1.ServicePort{
			{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8012)},
		}},
	}
	revisions, services := index(), index()
	check(revisions.Add(revision))
	check(services.Add(service))
	handlers, ignored := []cache.ResourceEventHandler{}, []cache.ResourceEventHandler{}
	ctx, cancel := context.WithCancel(logging.WithLogger(context.Background(), logger))
	ctx = context.WithValue(ctx, endpointsinformer.Key{}, endpointsTold{told: told{handlers: &handlers}})
	ctx = context.WithValue(ctx, revisioninformer.Key{}, revisionsTold{told: told{handlers: &ignored}, index: revisions})
	ctx = context.WithValue(ctx, serviceinformer.Key{}, servicesTold{index: services})

	t := activatornet.NewThrottler(ctx, fmt.Sprintf("10.0.0.%d", 200+self))
	go t.Run(ctx, alive{}, false, mode)
	synctest.Wait()
	tell := func(e *corev1.Endpoints) {
		for _, h := range handlers {
			h.OnAdd(e, false)
			synctest.Wait()
		}
	}
	tell(endpoints(networking.ServiceTypePrivate, 8012, 100, pods))
	tell(endpoints(networking.ServiceTypePublic, 8012, 200, activators))

	var mu sync.Mutex
	entered, gates := []int{}, []chan struct{}{}
	tries := func() {
		_ = t.Try(ctx, types.NamespacedName{Namespace: "ns", Name: "rev"}, func(dest string, isClusterIP bool) error {
			pod := -1
			if !isClusterIP {
				_, err := fmt.Sscanf(dest, "10.0.0.%d:8012", &pod)
				check(err)
				pod -= 100
			}
			mu.Lock()
			gate := make(chan struct{})
			entered, gates = append(entered, pod), append(gates, gate)
			mu.Unlock()
			<-gate
			return nil
		})
	}
	steps, inside := []any{}, []int{}
	for range 3*pods*int(max(limit, 1)) + 5 {
		before := len(entered)
		if d.chance(0.65) || len(inside) == 0 {
			go tries()
			steps = append(steps, nil)
		} else {
			which := d.IntN(len(inside))
			close(gates[inside[which]])
			steps = append(steps, inside[which])
			inside = append(inside[:which], inside[which+1:]...)
		}
		synctest.Wait()
		for i := before; i < len(entered); i++ {
			inside = append(inside, i)
		}
	}
	line := row{
		"container_concurrency": limit, "pods": pods, "activators": activators, "index": self, "mesh": mesh,
		"steps": steps, "entered": entered,
	}
	if self == activators {
		line["index"] = -1 // not among those in the path
		line["activators"] = 0
	}
	if limit == 0 && pods > 1 && !mesh {
		line["entered"] = len(entered) // which pod is drawn by chance
	}
	cancel()
	for _, i := range inside {
		close(gates[i])
	}
	return line
}
