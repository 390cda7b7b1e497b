package main

import (
	"strings"
	"testing"
)

const scaling = "autoscaling.knative.dev/"

// ksvc makes a service with these annotations on its template; spec lines go
// into the template's spec.
func ksvc(t *testing.T, annotations map[string]string, spec ...string) map[string]any {
	t.Helper()
	text := `
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: chat, namespace: ml}
spec:
  template:
    metadata: {annotations: {}}
    spec:
      containers: [{image: example.com/chat:1, resources: {limits: {nvidia.com/gpu: "1"}}}]
`
	for _, line := range spec {
		text += "      " + line + "\n"
	}
	object := parse(t, text)
	onTemplate := at(t, object, "spec", "template", "metadata", "annotations").(map[string]any)
	for key, value := range annotations {
		onTemplate[scaling+key] = value
	}
	return object
}

func TestKnativeHPA(t *testing.T) {
	class := "hpa.autoscaling.knative.dev"
	for name, test := range map[string]struct {
		annotations map[string]string
		works       bool
		path        []any
		want        any
	}{
		"fractional target becomes 0 and is refused": {
			map[string]string{"class": class, "metric": "latency", "target": "0.7"}, false,
			[]any{"spec", "metrics", 0, "pods", "target", "averageValue"}, "0",
		},
		"whole target": {
			map[string]string{"class": class, "metric": "latency", "target": "700"}, true,
			[]any{"spec", "metrics", 0, "pods", "target", "averageValue"}, "700",
		},
		"no target means cpu 80": {
			map[string]string{"class": class, "metric": "latency"}, true,
			[]any{"spec", "metrics", 0, "resource", "target", "averageUtilization"}, 80.0,
		},
		"to zero means to one": {
			map[string]string{"class": class, "metric": "cpu", "target": "75", "min-scale": "0"}, true,
			[]any{"spec", "minReplicas"}, 1.0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			answer := ask(t, "knative", map[string]any{"object": ksvc(t, test.annotations)})
			expect(t, answer, true, "ok") // the webhook lets all of these pass
			expect(t, answer, test.works, "works")
			expect(t, answer, test.works, "revisions", 0, "hpa", "ok")
			expect(t, answer, test.want, append([]any{"revisions", 0, "hpa", "object"}, test.path...)...)
		})
	}
}

func TestKnativeKPA(t *testing.T) {
	answer := ask(t, "knative", map[string]any{
		"object": ksvc(t, map[string]string{"metric": "rps", "target": "100", "max-scale": "5", "window": "30s"}),
		"config": map[string]any{"autoscaler": map[string]string{"target-burst-capacity": "0"}},
	})
	expect(t, answer, true, "works")
	decider := at(t, answer, "revisions", 0, "decider")
	expect(t, decider, 70.0, "target") // the cluster's 70% apply to rps too
	expect(t, decider, 100.0, "total")
	expect(t, decider, 0.0, "targetBurstCapacity")
	expect(t, decider, 30.0, "stableWindowSeconds")
	expect(t, decider, 3.0, "panicWindowSeconds")
	expect(t, decider, 5.0, "maxScale")
}

func TestKnativeTargetThatIsNoNumber(t *testing.T) {
	answer := ask(t, "knative", map[string]any{"object": ksvc(t, map[string]string{"target": "NaN"})})
	expect(t, answer, true, "ok") // upstream only asks whether it is below 0.01
	expect(t, answer, "NaN", "revisions", 0, "decider", "target")
}

func TestKnativeRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		object map[string]any
		want   string
	}{
		"priority class without its flag": {ksvc(t, nil, "priorityClassName: inference"), "must not set the field(s)"},
		"resource claims":                 {ksvc(t, nil, "resourceClaims: [{name: gpu, resourceClaimTemplateName: gpu}]"), "must not set the field(s)"},
		"unknown field":                   {ksvc(t, nil, "schedular: kai"), "unknown field"},
		"min above max":                   {ksvc(t, map[string]string{"min-scale": "3", "max-scale": "2"}), "max-scale=2 is less than min-scale=3"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := ask(t, "knative", map[string]any{"object": test.object})
			expect(t, answer, false, "ok")
			expectMessage(t, answer, test.want, "errors")
		})
	}
}

func TestKnativeFlag(t *testing.T) {
	answer := ask(t, "knative", map[string]any{
		"object": ksvc(t, nil, "priorityClassName: inference"),
		"config": map[string]any{"features": map[string]string{"kubernetes.podspec-priorityclassname": "enabled"}},
	})
	expect(t, answer, true, "works")
	expect(t, answer, "inference", "revisions", 0, "deployment", "object", "spec", "template", "spec", "priorityClassName")
}

func TestKnativeConfigIsChecked(t *testing.T) {
	answer := ask(t, "knative", map[string]any{
		"object": ksvc(t, nil), "config": map[string]any{"autoscaler": map[string]string{"stable-window": "1s"}},
	})
	if text, _ := at(t, answer, "error").(string); !strings.HasPrefix(text, "config-autoscaler: ") {
		t.Errorf("got %s", brief(answer))
	}
}
