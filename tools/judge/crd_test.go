package main

import "testing"

func TestCRD(t *testing.T) {
	crds := moduleFiles(t, "knative.dev/serving", "config/core/300-resources/service.yaml")
	crds = append(crds, moduleFiles(t, "github.com/kserve/kserve", "config/crd/full/*inferenceservices.yaml")...)
	expect(t, ask(t, "crd", map[string]any{"crds": crds}), 2.0, "registered")

	for name, test := range map[string]struct {
		object map[string]any
		want   string
	}{
		"service":                {ksvc(t, nil), ""},
		"service, unknown field": {ksvc(t, nil, "schedular: kai"), "unknown field spec.template.spec.schedular"},
		"inference service":      {isvc(t, nil, "{scaleMetric: rps, scaleTarget: 3}"), ""},
		"not in the enumeration": {isvc(t, nil, "{scaleMetric: latency, scaleTarget: 3}"), "Unsupported value"},
		// The format int32 is not enforced: it is the webhook that refuses.
		"more than 32 bits": {isvc(t, nil, "{scaleTarget: 3000000000}"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			answer := ask(t, "crd", map[string]any{"object": test.object})
			expect(t, answer, test.want == "", "ok")
			if test.want != "" {
				expectMessage(t, answer, test.want, "errors")
			}
		})
	}

	// A policy on a registered kind is checked against its schema.
	policy := parse(t, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: services}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [serving.knative.dev], apiVersions: [v1], resources: [services], operations: [CREATE]}]}
  validations: [{expression: "object.spec.template.spec.containrs.size() == 1"}]`)
	answer := ask(t, "policy", map[string]any{"policies": []any{policy}, "object": ksvc(t, nil)})
	expectMessage(t, at(t, answer, "results", 0), "undefined field 'containrs'", "warnings")
}
