package main

import "testing"

const llmService = `
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceService
metadata: {name: qwen, namespace: ml}
spec:
  model: {uri: "hf://Qwen/Qwen2.5-7B-Instruct"}
  template: {containers: [{name: main, args: ["--max-model-len=8192"]}]}
`

const llmPreset = `
apiVersion: serving.kserve.io/v1alpha2
kind: LLMInferenceServiceConfig
metadata: {name: preset}
spec:
  template:
    containers: [{name: main, image: "example.com/vllm:1", command: [vllm, serve, "{{ .Spec.Model.Name }}"]}]
`

func TestLLMInferenceServiceIsDefaultedAndMerged(t *testing.T) {
	answer := ask(t, "llmisvc", map[string]any{"object": parse(t, llmService), "presets": []any{parse(t, llmPreset)}})
	expect(t, answer, true, "ok")
	expect(t, answer, "qwen", "object", "spec", "model", "name")
	expect(t, answer, true, "deployment", "ok")
	container := at(t, answer, "deployment", "object", "spec", "template", "spec", "containers", 0)
	expect(t, container, "qwen", "command", 2)
	expect(t, container, "--max-model-len=8192", "args", 0)
}

func TestLLMInferenceServiceRefusals(t *testing.T) {
	object := parse(t, llmService)
	at(t, object, "spec").(map[string]any)["scaling"] = map[string]any{"maxReplicas": 2}
	answer := ask(t, "llmisvc", map[string]any{"object": object})
	expect(t, answer, false, "ok")
	expectMessage(t, answer, "wva is required", "errors")
}
