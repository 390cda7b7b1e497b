package main

import "testing"

const memoryPolicy = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: memory}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE, UPDATE]}]
    objectSelector: {matchExpressions: [{key: free, operator: DoesNotExist}]}
  matchConditions: [{name: not-system, expression: "object.metadata.namespace != 'kube-system'"}]
  variables: [{name: limits, expression: "object.spec.containers.map(c, c.resources.limits['memory'])"}]
  validations:
  - expression: variables.limits.all(l, quantity(l).compareTo(quantity('1Gi')) <= 0)
    messageExpression: "'more than 1Gi: ' + variables.limits.join(', ')"
    reason: Forbidden
`

func podWith(t *testing.T, metadata, memory string) map[string]any {
	t.Helper()
	return parse(t, `
apiVersion: v1
kind: Pod
metadata: `+metadata+`
spec: {containers: [{name: c, image: i, resources: {limits: {memory: `+memory+`}}}]}`)
}

func TestPolicy(t *testing.T) {
	for name, test := range map[string]struct {
		metadata, memory, operation string
		matched, allowed            bool
	}{
		"small":                {"{name: p}", "1024Mi", "CREATE", true, true},
		"large":                {"{name: p}", "2Gi", "CREATE", true, false},
		"other operation":      {"{name: p}", "2Gi", "DELETE", false, true},
		"excluded by label":    {"{name: p, labels: {free: 'yes'}}", "2Gi", "CREATE", false, true},
		"excluded by its rule": {"{name: p, namespace: kube-system}", "2Gi", "CREATE", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			object := podWith(t, test.metadata, test.memory)
			if _, named := at(t, object, "metadata", "namespace").(string); !named {
				at(t, object, "metadata").(map[string]any)["namespace"] = "ml"
			}
			answer := ask(t, "policy", map[string]any{
				"policies": []any{parse(t, memoryPolicy)}, "object": object, "oldObject": object, "operation": test.operation,
			})
			result := at(t, answer, "results", 0)
			expect(t, result, test.matched, "matched")
			expect(t, result, test.allowed, "allowed")
			if !test.allowed {
				expect(t, result, "more than 1Gi: 2Gi", "denials", 0, "message")
				expect(t, result, "Forbidden", "denials", 0, "reason")
			}
		})
	}
}

func TestPolicyErrors(t *testing.T) {
	policy := parse(t, memoryPolicy)
	at(t, policy, "spec").(map[string]any)["validations"] = []any{
		map[string]any{"expression": "object.spec.replicas == 1"}, // typed as Pod, which has no spec.replicas
		map[string]any{"expression": "object.spec."},
	}
	answer := ask(t, "policy", map[string]any{"policies": []any{policy}, "object": podWith(t, "{name: p, namespace: ml}", "1Gi")})
	result := at(t, answer, "results", 0)
	expect(t, result, false, "allowed")
	expectMessage(t, result, "no such key: replicas", "errors")
	expectMessage(t, result, "compilation failed", "errors")
	expectMessage(t, result, "undefined field 'replicas'", "warnings")
}

func TestPolicyBindingAndParams(t *testing.T) {
	policy := parse(t, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: registry}
spec:
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}]
  validations: [{expression: "object.spec.containers.all(c, c.image.startsWith(params.data.prefix))", message: wrong registry}]`)
	binding := parse(t, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: production}
spec:
  policyName: registry
  validationActions: [Deny]
  paramRef: {name: allowed, namespace: policies, parameterNotFoundAction: Deny}
  matchResources: {namespaceSelector: {matchLabels: {env: production}}}`)
	params := parse(t, `
apiVersion: v1
kind: ConfigMap
metadata: {name: allowed, namespace: policies}
data: {prefix: "example.com/"}`)
	pod := podWith(t, "{name: p, namespace: ml}", "1Gi")
	space := func(env string) map[string]any {
		return map[string]any{"metadata": map[string]any{"name": "ml", "labels": map[string]string{"env": env}}}
	}
	for name, test := range map[string]struct {
		space   map[string]any
		params  any
		matched bool
		message any
	}{
		"bound":              {space("production"), params, true, "wrong registry"},
		"not bound":          {space("dev"), params, false, nil},
		"params are missing": {space("production"), nil, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			answer := ask(t, "policy", map[string]any{
				"policies": []any{policy}, "bindings": []any{binding}, "params": test.params, "object": pod, "namespaceObject": test.space,
			})
			result := at(t, answer, "results", 0)
			expect(t, result, test.matched, "matched")
			expect(t, result, !test.matched, "allowed")
			expect(t, result, "Deny", "actions", 0)
			if test.message != nil {
				expect(t, result, test.message, "denials", 0, "message")
			}
		})
	}
}
