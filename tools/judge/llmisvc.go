package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/kserve/kserve/pkg/apis/serving/v1alpha2"
	"github.com/kserve/kserve/pkg/controller/v1alpha2/llmisvc"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func init() {
	judges["llmisvc"] = judgeLLMISVC
}

type llmisvcRequest struct {
	header
	Object    json.RawMessage `json:"object"`
	OldObject json.RawMessage `json:"oldObject"`
	// Presets holds the LLMInferenceServiceConfigs that the controller merges
	// below the object, the first of them below the others.
	Presets []json.RawMessage `json:"presets"`
}

type llmisvcVerdict struct {
	verdict
	// MergeError is the controller's about the presets, word for word.
	MergeError string `json:"mergeError,omitempty"`
	// Deployment is the API server's word on the merged pod template.
	Deployment *verdict `json:"deployment,omitempty"`
}

// judgeLLMISVC decodes an LLMInferenceService strictly, and passes it through
// the defaulting and the validation of its webhooks.
func judgeLLMISVC(request []byte) (any, error) {
	var r llmisvcRequest
	if err := readRequest(request, &r); err != nil {
		return nil, err
	}
	answer := &llmisvcVerdict{verdict: newVerdict()}
	service := &v1alpha2.LLMInferenceService{}
	if problems := decodeStrict(r.Object, service); problems != nil {
		answer.refuse(problems...)
		return answer, nil
	}
	ctx, validator := context.Background(), &v1alpha2.LLMInferenceServiceValidator{}
	service.SetDefaults(ctx)
	var warnings []string
	var err error
	if len(r.OldObject) == 0 {
		warnings, err = validator.ValidateCreate(ctx, service)
	} else {
		old := &v1alpha2.LLMInferenceService{}
		if problems := decodeStrict(r.OldObject, old); problems != nil {
			return nil, fmt.Errorf("oldObject: %s", problems[0].Message)
		}
		old.SetDefaults(ctx)
		warnings, err = validator.ValidateUpdate(ctx, old, service)
	}
	for _, warning := range warnings {
		answer.Warnings = append(answer.Warnings, problem{Message: warning, Level: "warning"})
	}
	answer.refuse(problemsOf(err)...)
	answer.Object = mustJSON(service)
	if !answer.OK || len(r.Presets) == 0 {
		return answer, nil
	}
	return answer, answer.merge(ctx, r.Presets, service)
}

// merge lets the controller's own code merge the object over its presets and
// replace their variables, and judges the pod template that this gives.
func (answer *llmisvcVerdict) merge(ctx context.Context, presets []json.RawMessage, service *v1alpha2.LLMInferenceService) error {
	var specs []v1alpha2.LLMInferenceServiceSpec
	for _, raw := range presets {
		preset := &v1alpha2.LLMInferenceServiceConfig{}
		if problems := decodeStrict(raw, preset); problems != nil {
			return fmt.Errorf("presets: %s", problems[0].Message)
		}
		specs = append(specs, preset.Spec)
	}
	merged, err := llmisvc.MergeSpecs(ctx, append(specs, service.Spec)...)
	if err != nil {
		answer.MergeError = err.Error()
		return nil
	}
	config := &v1alpha2.LLMInferenceServiceConfig{ObjectMeta: *service.ObjectMeta.DeepCopy(), Spec: merged}
	config, err = llmisvc.ReplaceVariables(service, config, &llmisvc.Config{})
	if err != nil {
		answer.MergeError = err.Error()
		return nil
	}
	labels := map[string]string{"app.kubernetes.io/name": service.Name}
	pod := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{}, Annotations: config.Spec.Annotations}}
	for _, one := range []map[string]string{labels, config.Spec.Labels} {
		for key, value := range one {
			pod.Labels[key] = value
		}
	}
	if config.Spec.Template != nil {
		pod.Spec = *config.Spec.Template
	}
	answer.Deployment, err = admitBuiltin(mustJSON(&appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: service.Name, Namespace: service.Namespace},
		Spec:       appsv1.DeploymentSpec{Replicas: config.Spec.Replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: pod},
	}), nil)
	return err
}
