package main

import "testing"

func TestObject(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"priority class": {`
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: inference}
value: 125`, ""},
		"priority too high": {`
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: inference}
value: 2000000000`, "maximum allowed value"},
		"quota by priority class": {`
apiVersion: v1
kind: ResourceQuota
metadata: {name: q, namespace: ml}
spec:
  hard: {"requests.nvidia.com/gpu": "4"}
  scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [inference]}]}`, ""},
		"quota of an unknown resource": {`
apiVersion: v1
kind: ResourceQuota
metadata: {name: q, namespace: ml}
spec: {hard: {gpu: "4"}}`, "must be a standard resource for quota"},
		// Accepted, though nothing ever counts it: only requests.* of an
		// extended resource are. The name passes as a separate resource.
		"quota of limits of an extended resource": {`
apiVersion: v1
kind: ResourceQuota
metadata: {name: q, namespace: ml}
spec: {hard: {"limits.nvidia.com/gpu": "4"}}`, ""},
		"fractional extended resource": {`
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: c, image: i, resources: {limits: {nvidia.com/gpu: 0.5}}}]}`, "must be an integer"},
		"unknown field": {`
apiVersion: v1
kind: Namespace
metadata: {name: ml, lables: {}}`, `unknown field "metadata.lables"`},
		"claim template": {`
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: gpu, namespace: ml}
spec: {spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpu.example.com}}]}}}`, ""},
		"claim template without a class": {`
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: gpu, namespace: ml}
spec: {spec: {devices: {requests: [{name: gpu, exactly: {}}]}}}`, "Required value"},
		"policy that does not compile": {`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: p}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}]}
  validations: [{expression: "object.spec.("}]`, "compilation failed"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := ask(t, "object", map[string]any{"object": parse(t, test.text)})
			expect(t, answer, test.want == "", "ok")
			if test.want != "" {
				expectMessage(t, answer, test.want, "errors")
			}
		})
	}
}

func TestObjectDefaults(t *testing.T) {
	answer := ask(t, "object", map[string]any{"object": parse(t, `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: h}
spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}}`)})
	expect(t, answer, true, "ok")
	expect(t, answer, 80.0, "object", "spec", "metrics", 0, "resource", "target", "averageUtilization")
	expect(t, answer, 1.0, "object", "spec", "minReplicas")
}

func TestObjectUpdate(t *testing.T) {
	class := func(value int) map[string]any {
		return map[string]any{
			"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": value,
			"metadata": map[string]any{"name": "inference", "resourceVersion": "1"},
		}
	}
	answer := ask(t, "object", map[string]any{"object": class(100), "oldObject": class(125)})
	expect(t, answer, false, "ok")
	expectMessage(t, answer, "may not be changed in an update", "errors")
}
