package main

import "testing"

// isvc makes an InferenceService of one plain container.
func isvc(t *testing.T, annotations map[string]string, predictor string) map[string]any {
	t.Helper()
	object := parse(t, `
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: chat, namespace: ml, annotations: {}}
spec:
  predictor:
    containers: [{name: kserve-container, image: "example.com/chat:1"}]
`)
	for key, value := range annotations {
		at(t, object, "metadata", "annotations").(map[string]any)[key] = value
	}
	for key, value := range parse(t, predictor) {
		at(t, object, "spec", "predictor").(map[string]any)[key] = value
	}
	return object
}

func TestKServeRefusals(t *testing.T) {
	hpa := map[string]string{scaling + "class": "hpa.autoscaling.knative.dev"}
	for name, test := range map[string]struct {
		object map[string]any
		want   string
	}{
		"memory above 100 with hpa": {isvc(t, hpa, "{scaleMetric: memory, scaleTarget: 200}"), "should be a [1-100] integer"},
		"cpu without hpa":           {isvc(t, nil, "{scaleMetric: cpu, scaleTarget: 50}"), "not a supported metric"},
		"unknown field":             {isvc(t, nil, "{scaleTargets: 3}"), "unknown field"},
		"more than 32 bits":         {isvc(t, nil, "{scaleTarget: 3000000000}"), "cannot unmarshal number"},
		"min above max":             {isvc(t, nil, "{minReplicas: 3, maxReplicas: 2}"), "MinReplicas"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := ask(t, "kserve", map[string]any{"object": test.object})
			expect(t, answer, false, "ok")
			expectMessage(t, answer, test.want, "errors")
		})
	}
}

func TestKServeKnative(t *testing.T) {
	answer := ask(t, "kserve", map[string]any{
		"object": isvc(t, map[string]string{scaling + "min-scale": "3", scaling + "max-scale": "7"},
			"{minReplicas: 0, scaleMetric: concurrency, scaleTarget: 10, containerConcurrency: 20, timeout: 120}"),
	})
	expect(t, answer, true, "works")
	template := at(t, answer, "ksvc", "spec", "template")
	expect(t, template, "0", "metadata", "annotations", scaling+"min-scale")
	expect(t, template, nil, "metadata", "annotations", scaling+"max-scale") // dropped, unlike other annotations
	expect(t, template, "10", "metadata", "annotations", scaling+"target")
	expect(t, template, 20.0, "spec", "containerConcurrency")
	expect(t, template, 120.0, "spec", "responseStartTimeoutSeconds")
	expect(t, answer, 7.0, "knative", "revisions", 0, "decider", "target")
}

func TestKServeRuntime(t *testing.T) {
	object := isvc(t, nil, "{model: {modelFormat: {name: huggingface}, storageUri: 'hf://org/model', args: [--model_name=chat]}}")
	delete(at(t, object, "spec", "predictor").(map[string]any), "containers")
	runtimes := moduleFiles(t, "github.com/kserve/kserve", "config/runtimes/kserve-huggingfaceserver.yaml")

	answer := ask(t, "kserve", map[string]any{"object": object})
	expect(t, answer, true, "ok")
	expect(t, answer, false, "works")
	if text, _ := at(t, answer, "reconcileError").(string); text == "" {
		t.Errorf("a model without a runtime was reconciled: %s", brief(answer))
	}

	answer = ask(t, "kserve", map[string]any{"object": object, "runtimes": runtimes})
	expect(t, answer, true, "works")
	expect(t, answer, "hf://org/model", "ksvc", "spec", "template", "metadata", "annotations", "internal.serving.kserve.io/storage-initializer-sourceuri")
}

func TestKServeNeedsKnativeFlags(t *testing.T) {
	object := isvc(t, nil, "{priorityClassName: inference}")
	answer := ask(t, "kserve", map[string]any{"object": object})
	expect(t, answer, true, "ok")
	expect(t, answer, false, "works")
	expectMessage(t, answer, "must not set the field(s)", "knative", "errors")

	answer = ask(t, "kserve", map[string]any{
		"object": object, "config": map[string]any{"features": map[string]string{"kubernetes.podspec-priorityclassname": "enabled"}},
	})
	expect(t, answer, true, "works")
}

func TestKServeAnnotationDisallowedList(t *testing.T) {
	answer := ask(t, "kserve", map[string]any{
		"object": isvc(t, map[string]string{"ebbtide.dev/spec": "{}"}, "{}"),
		"config": map[string]any{"inferenceservice": map[string]string{"inferenceService": `{"serviceAnnotationDisallowedList": ["ebbtide.dev/spec"]}`}},
	})
	expect(t, answer, nil, "ksvc", "spec", "template", "metadata", "annotations", "ebbtide.dev/spec")
	answer = ask(t, "kserve", map[string]any{"object": isvc(t, map[string]string{"ebbtide.dev/spec": "{}"}, "{}")})
	expect(t, answer, "{}", "ksvc", "spec", "template", "metadata", "annotations", "ebbtide.dev/spec")
}

func TestKServeStandard(t *testing.T) {
	for name, test := range map[string]struct {
		class, predictor string
		made             bool
		target           any
	}{
		"default is cpu 80": {"", "{minReplicas: 2, maxReplicas: 4}", true, 80.0},
		"cpu":               {"hpa", "{minReplicas: 2, maxReplicas: 4, scaleMetric: cpu, scaleTarget: 60}", true, 60.0},
		"concurrency is accepted and becomes cpu 80": {"", "{minReplicas: 2, maxReplicas: 4, scaleMetric: concurrency, scaleTarget: 3}", true, 80.0},
		"external makes none":                        {"external", "{minReplicas: 2, maxReplicas: 4}", false, nil},
		"none makes none":                            {"none", "{minReplicas: 2}", false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			annotations := map[string]string{"serving.kserve.io/deploymentMode": "Standard"}
			if test.class != "" {
				annotations["serving.kserve.io/autoscalerClass"] = test.class
			}
			answer := ask(t, "kserve", map[string]any{"object": isvc(t, annotations, test.predictor)})
			expect(t, answer, true, "works")
			expect(t, answer, nil, "ksvc")
			if !test.made {
				expect(t, answer, nil, "hpa")
				return
			}
			expect(t, answer, test.target, "hpa", "object", "spec", "metrics", 0, "resource", "target", "averageUtilization")
		})
	}
}
