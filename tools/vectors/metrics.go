package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	netcfg "knative.dev/networking/pkg/config"
	netheader "knative.dev/networking/pkg/http/header"
	autoscalingv1alpha1 "knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	"knative.dev/serving/pkg/apis/serving"
	"knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/queue"
	"knative.dev/serving/pkg/resources"
)

var logger = zap.NewNop().Sugar()

// samples lets the scraper ask populations of pods, and counts the questions.
func samples(_ *testing.T, emit func(any)) {
	var asked atomic.Int64
	var answers func(host string) metrics.Stat
	pods := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		stat := answers(r.Host)
		text, err := stat.Marshal()
		check(err)
		w.Header().Set("Content-Type", netheader.ProtobufMIMEType)
		_, err = w.Write(text)
		check(err)
	}))
	defer pods.Close()
	// The scraper's client can't be changed, but like any other it asks the proxy of its environment.
	check(os.Setenv("HTTP_PROXY", pods.URL))
	check(os.Setenv("NO_PROXY", ""))

	d := newDice(1)
	populations := []int{}
	for n := range 120 {
		populations = append(populations, n)
	}
	populations = append(populations, 150, 200, 300, 351, 400, 500, 1000)
	for _, population := range populations {
		// All alike, so that it does not matter which are asked. Up to 3 are asked whole and differ, in quarters,
		// whose sums are the same in any order.
		stats := []metrics.Stat{{
			AverageConcurrentRequests: d.measured(100), AverageProxiedConcurrentRequests: d.measured(10),
			RequestCount: d.measured(1000), ProxiedRequestCount: d.measured(100),
		}}
		if population <= 3 {
			stats = stats[:0]
			for range population {
				stats = append(stats, metrics.Stat{
					AverageConcurrentRequests:        float64(d.between(1, 99)) / 4,
					AverageProxiedConcurrentRequests: float64(d.between(0, 99)) / 4,
					RequestCount:                     float64(d.between(0, 99)) / 4,
					ProxiedRequestCount:              float64(d.between(0, 99)) / 4,
				})
			}
		}
		answers = func(host string) metrics.Stat {
			var a, b int
			_, err := fmt.Sscanf(host, "10.0.%d.%d", &a, &b)
			check(err)
			return stats[(a*250+b)%len(stats)]
		}
		index := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
		for i := range population {
			check(index.Add(readyPod(i, time.Now().Add(-time.Duration(i)*time.Second))))
		}
		scraper := metrics.NewStatsScraper(
			&autoscalingv1alpha1.Metric{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "rev"}}, "rev",
			resources.NewPodAccessor(corev1listers.NewPodLister(index), "ns", "rev"), false,
			netcfg.MeshCompatibilityModeDisabled, logger, noop.NewMeterProvider())
		asked.Store(0)
		got, err := scraper.Scrape(time.Minute)
		check(err)
		all := []any{}
		for _, s := range stats {
			all = append(all, numbers(s))
		}
		emit(row{"population": population, "asked": asked.Load(), "stats": all, "average": numbers(got)})
	}
}

func readyPod(i int, started time.Time) *corev1.Pod {
	start := metav1.NewTime(started)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("rev-%d", i), Namespace: "ns", Labels: map[string]string{serving.RevisionLabelKey: "rev"},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, StartTime: &start, PodIP: fmt.Sprintf("10.0.%d.%d", i/250, i%250),
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}

func numbers(s metrics.Stat) []float64 {
	return []float64{
		s.AverageConcurrentRequests, s.AverageProxiedConcurrentRequests, s.RequestCount, s.ProxiedRequestCount,
	}
}

// script is a scraper that returns a given statistic once.
type script struct{ next metrics.Stat }

func (s *script) Scrape(time.Duration) (metrics.Stat, error) {
	stat := s.next
	s.next = metrics.Stat{}
	if stat == (metrics.Stat{}) {
		return stat, errors.New("nothing")
	}
	return stat, nil
}

// collections runs a collector: a scrape a second, activators' reports between, windows that change.
func collections(t *testing.T, emit func(any)) {
	for seed := range uint64(28) {
		synctest.Test(t, func(*testing.T) { emit(collection(newDice(seed))) })
	}
}

func collection(d dice) row {
	source, start := &script{}, time.Now()
	collector := metrics.NewMetricCollector(
		func(m *autoscalingv1alpha1.Metric, _ *zap.SugaredLogger) (metrics.StatsScraper, error) {
			if m.Spec.ScrapeTarget == "" {
				return nil, nil
			}
			return source, nil
		}, logger)
	key := types.NamespacedName{Namespace: "ns", Name: "rev"}
	m := &autoscalingv1alpha1.Metric{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "rev"}}
	windows := func() []any {
		stable := pick(d, 6, 10, 30, 60)
		panicWindow := max(1, stable/10)
		m = m.DeepCopy()
		m.Spec.StableWindow, m.Spec.PanicWindow = time.Duration(stable)*time.Second, time.Duration(panicWindow)*time.Second
		m.Spec.ScrapeTarget = "svc"
		if d.chance(0.2) {
			m.Spec.ScrapeTarget = ""
		}
		return []any{stable, panicWindow, m.Spec.ScrapeTarget != ""}
	}
	line := row{"windows": windows(), "weighted": d.chance(0.3)}
	if line["weighted"] == true {
		m.Annotations = map[string]string{"autoscaling.knative.dev/metric-aggregation-algorithm": "weighted-exponential"}
	}
	check(collector.CreateOrUpdate(m))
	defer collector.Delete("ns", "rev")

	steps, quiet := []any{}, false
	now := func() int { return int(time.Since(start).Milliseconds()) }
	report := func() metrics.Stat {
		return metrics.Stat{
			AverageConcurrentRequests: d.measured(50) + 0.001, AverageProxiedConcurrentRequests: d.measured(5),
			RequestCount: d.measured(500), ProxiedRequestCount: d.measured(50),
		}
	}
	for range 40 {
		if d.chance(0.06) {
			quiet = !quiet
		}
		if !quiet && d.chance(0.9) {
			source.next = report()
		}
		scraped := source.next
		time.Sleep(time.Second - time.Since(start)%time.Second)
		synctest.Wait()
		if scraped != (metrics.Stat{}) && source.next == (metrics.Stat{}) {
			steps = append(steps, append([]any{"s", now()}, floats(scraped)...))
		}
		source.next = metrics.Stat{}
		time.Sleep(milliseconds(d.between(1, 900)))
		switch {
		case !quiet && d.chance(0.3):
			stat := report()
			collector.Record(key, time.Now(), stat)
			steps = append(steps, append([]any{"s", now()}, floats(stat)...))
		case d.chance(0.05):
			steps = append(steps, append([]any{"w", now()}, windows()...))
			// It returns the last scrape's error; the windows have changed all the same.
			_ = collector.CreateOrUpdate(m)
		}
		if d.chance(0.5) {
			step := []any{"a", now()}
			for _, read := range []func(types.NamespacedName, time.Time) (float64, float64, error){
				collector.StableAndPanicConcurrency, collector.StableAndPanicRPS,
			} {
				stable, panicking, err := read(key, time.Now())
				switch {
				case errors.Is(err, metrics.ErrNoData):
					step = append(step, nil, nil)
				default:
					check(err)
					step = append(step, stable, panicking)
				}
			}
			steps = append(steps, step)
		}
	}
	line["steps"] = steps
	return line
}

func floats(s metrics.Stat) []any {
	all := []any{}
	for _, v := range numbers(s) {
		all = append(all, v)
	}
	return all
}

// breakers lets requests queue, enter, and leave breakers whose capacity changes.
func breakers(t *testing.T, emit func(any)) {
	for seed := range uint64(20) {
		synctest.Test(t, func(*testing.T) { emit(breaker(newDice(seed))) })
	}
}

func breaker(d dice) row {
	params := queue.BreakerParams{QueueDepth: d.between(1, 6), MaxConcurrency: d.between(0, 6)}
	params.InitialCapacity = d.between(0, params.MaxConcurrency)
	b := queue.NewBreaker(params)
	ctx, cancel := context.WithCancel(context.Background())
	var inside, refused atomic.Int64
	gate, reserved := make(chan struct{}), []func(){}
	steps := []any{}
	for range 40 {
		var step []any
		switch op := d.IntN(10); {
		case op < 4:
			step = []any{"maybe"}
			go func() {
				err := b.Maybe(ctx, func() {
					inside.Add(1)
					<-gate
					inside.Add(-1)
				})
				if errors.Is(err, queue.ErrRequestQueueFull) {
					refused.Add(1)
				}
			}()
		case op < 5:
			release, ok := b.Reserve(ctx)
			if ok {
				inside.Add(1)
				reserved = append(reserved, release)
			}
			step = []any{"reserve", ok}
		case op < 7 && len(reserved) > 0:
			reserved[0]()
			reserved = reserved[1:]
			inside.Add(-1)
			step = []any{"release"}
		case op < 9:
			select {
			case gate <- struct{}{}:
				step = []any{"release"}
			default:
				step = []any{"nothing"}
			}
		default:
			size := d.between(0, params.MaxConcurrency)
			b.UpdateConcurrency(size)
			step = []any{"capacity", size}
		}
		synctest.Wait()
		steps = append(steps, append(step, b.InFlight(), inside.Load(), refused.Load()))
	}
	cancel()
	for _, release := range reserved {
		release()
	}
	close(gate)
	synctest.Wait()
	return row{
		"queue_depth": params.QueueDepth, "max_concurrency": params.MaxConcurrency,
		"initial_capacity": params.InitialCapacity, "steps": steps,
	}
}
