package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	netcfg "knative.dev/networking/pkg/config"
	"knative.dev/pkg/apis"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/webhook/resourcesemantics"
	"knative.dev/serving/pkg/apis/autoscaling"
	autoscalingv1alpha1 "knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	apiconfig "knative.dev/serving/pkg/apis/config"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	autoscalerconfig "knative.dev/serving/pkg/autoscaler/config"
	"knative.dev/serving/pkg/deployment"
	"knative.dev/serving/pkg/observability"
	hparesources "knative.dev/serving/pkg/reconciler/autoscaling/hpa/resources"
	kparesources "knative.dev/serving/pkg/reconciler/autoscaling/kpa/resources"
	paresources "knative.dev/serving/pkg/reconciler/autoscaling/resources"
	configurationresources "knative.dev/serving/pkg/reconciler/configuration/resources"
	revisionconfig "knative.dev/serving/pkg/reconciler/revision/config"
	revisionresources "knative.dev/serving/pkg/reconciler/revision/resources"
	serviceresources "knative.dev/serving/pkg/reconciler/service/resources"
)

// knativeConfig holds the data of Knative's ConfigMaps, without "config-".
type knativeConfig struct {
	Features      map[string]string `json:"features"`
	Autoscaler    map[string]string `json:"autoscaler"`
	Defaults      map[string]string `json:"defaults"`
	Deployment    map[string]string `json:"deployment"`
	Network       map[string]string `json:"network"`
	Observability map[string]string `json:"observability"`
	Logging       map[string]string `json:"logging"`
}

type knativeRequest struct {
	header
	Object    json.RawMessage            `json:"object"`
	OldObject json.RawMessage            `json:"oldObject"`
	Config    knativeConfig              `json:"config"`
	UserInfo  *authenticationv1.UserInfo `json:"userInfo"`
}

// A knativeVerdict is the webhook's answer, and what the controllers would
// make of the service if it was accepted.
type knativeVerdict struct {
	verdict
	// Works is false where the webhook accepts a service that can never run,
	// because something its controllers make from it is refused.
	Works     bool              `json:"works"`
	Revisions []revisionVerdict `json:"revisions"`
}

type revisionVerdict struct {
	Name   string `json:"name"`
	Class  string `json:"class"`
	Metric string `json:"metric"`
	// Errors are the webhook's, on the Revision and the PodAutoscaler.
	Errors        []problem       `json:"errors"`
	Deployment    *verdict        `json:"deployment"`
	PodAutoscaler json.RawMessage `json:"podAutoscaler"`
	HPA           *verdict        `json:"hpa,omitempty"`
	Decider       *decider        `json:"decider,omitempty"`
}

// A decider is what the KPA scales by. Upstream's type has no JSON names.
type decider struct {
	Metric              string  `json:"metric"`
	Target              number  `json:"target"`
	Total               number  `json:"total"`
	TargetBurstCapacity number  `json:"targetBurstCapacity"`
	ActivatorCapacity   number  `json:"activatorCapacity"`
	PanicThreshold      number  `json:"panicThreshold"`
	StableWindowSeconds float64 `json:"stableWindowSeconds"`
	PanicWindowSeconds  float64 `json:"panicWindowSeconds"`
	ScaleDownDelay      float64 `json:"scaleDownDelaySeconds"`
	MaxScaleUpRate      number  `json:"maxScaleUpRate"`
	MaxScaleDownRate    number  `json:"maxScaleDownRate"`
	InitialScale        int32   `json:"initialScale"`
	ActivationScale     int32   `json:"activationScale"`
	MinScale            int32   `json:"minScale"`
	MaxScale            int32   `json:"maxScale"`
}

// A number may have no form in JSON: the webhook accepts NaN and Inf as a
// target, and the answer must be able to carry them.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return json.Marshal(fmt.Sprint(float64(n)))
	}
	return json.Marshal(float64(n))
}

func judgeKnative(request []byte) (any, error) {
	var r knativeRequest
	if err := readRequest(request, &r); err != nil {
		return nil, err
	}
	return admitKnative(r)
}

func admitKnative(r knativeRequest) (*knativeVerdict, error) {
	config, err := r.Config.parse()
	if err != nil {
		return nil, err
	}
	if r.UserInfo == nil {
		r.UserInfo = &authenticationv1.UserInfo{Username: "judge"}
	}
	ctx := apiconfig.ToContext(context.Background(), config.Config)
	ctx = apis.WithUserInfo(ctx, r.UserInfo)

	answer := &knativeVerdict{verdict: newVerdict(), Revisions: []revisionVerdict{}}
	service := &servingv1.Service{}
	answer.refuse(decodeStrict(r.Object, service)...)
	if len(r.OldObject) == 0 {
		ctx = apis.WithinCreate(ctx)
	} else {
		old := &servingv1.Service{}
		if problems := decodeStrict(r.OldObject, old); problems != nil {
			return nil, fmt.Errorf("oldObject: %s", problems[0].Message)
		}
		ctx = apis.WithinUpdate(ctx, old)
	}
	errs, warnings := webhook(ctx, service)
	answer.refuse(errs...)
	answer.Warnings = warnings
	answer.Object = mustJSON(service)
	if !answer.OK {
		return answer, nil
	}
	revision, err := deriveRevision(ctx, service, config)
	if err != nil {
		return nil, err
	}
	answer.Revisions = append(answer.Revisions, *revision)
	answer.Works = len(revision.Errors) == 0 && revision.Deployment.OK && (revision.HPA == nil || revision.HPA.OK)
	return answer, nil
}

// webhook defaults and validates in the order of the two admission webhooks.
func webhook(ctx context.Context, object resourcesemantics.GenericCRD) (errs, warnings []problem) {
	object.SetDefaults(ctx)
	result := object.Validate(ctx)
	return knativeProblems(result, apis.ErrorLevel), knativeProblems(result, apis.WarningLevel)
}

// deriveRevision walks the chain of controllers from the Service down. What
// the API server would set on each object as it stores it, is set here.
func deriveRevision(ctx context.Context, service *servingv1.Service, config *revisionconfig.Config) (*revisionVerdict, error) {
	ctx = apis.WithinCreate(ctx)
	stored(service)
	configuration := serviceresources.MakeConfiguration(service)
	stored(configuration)
	configuration.Generation = 1

	revision := configurationresources.MakeRevision(ctx, configuration, time.Unix(0, 0).UTC())
	answer := &revisionVerdict{Name: revision.Name, Errors: []problem{}}
	errs, _ := webhook(ctx, revision)
	answer.Errors = append(answer.Errors, errs...)
	stored(revision)

	made, err := revisionresources.MakeDeployment(revision, config)
	if err != nil {
		return nil, fmt.Errorf("MakeDeployment: %w", err)
	}
	made.APIVersion, made.Kind = "apps/v1", "Deployment"
	if answer.Deployment, err = admitBuiltin(mustJSON(made), nil); err != nil {
		return nil, err
	}

	pa := revisionresources.MakePA(revision, made)
	errs, _ = webhook(ctx, pa)
	answer.Errors = append(answer.Errors, errs...)
	stored(pa)
	answer.PodAutoscaler = mustJSON(pa)
	answer.Class, answer.Metric = pa.Class(), pa.Metric()

	switch pa.Class() {
	case autoscaling.HPA:
		hpa := hparesources.MakeHPA(pa, config.Autoscaler)
		hpa.APIVersion, hpa.Kind = "autoscaling/v2", "HorizontalPodAutoscaler"
		answer.HPA, err = admitBuiltin(mustJSON(hpa), nil)
	case autoscaling.KPA:
		answer.Decider = makeDecider(pa, config)
	}
	return answer, err
}

func makeDecider(pa *autoscalingv1alpha1.PodAutoscaler, config *revisionconfig.Config) *decider {
	spec := kparesources.MakeDecider(pa, config.Autoscaler).Spec
	metric := paresources.MakeMetric(pa, "", config.Autoscaler).Spec
	minScale, maxScale := pa.ScaleBounds(config.Autoscaler)
	return &decider{
		Metric:              spec.ScalingMetric,
		Target:              number(spec.TargetValue),
		Total:               number(spec.TotalValue),
		TargetBurstCapacity: number(spec.TargetBurstCapacity),
		ActivatorCapacity:   number(spec.ActivatorCapacity),
		PanicThreshold:      number(spec.PanicThreshold),
		StableWindowSeconds: spec.StableWindow.Seconds(),
		PanicWindowSeconds:  metric.PanicWindow.Seconds(),
		ScaleDownDelay:      spec.ScaleDownDelay.Seconds(),
		MaxScaleUpRate:      number(spec.MaxScaleUpRate),
		MaxScaleDownRate:    number(spec.MaxScaleDownRate),
		InitialScale:        spec.InitialScale,
		ActivationScale:     spec.ActivationScale,
		MinScale:            minScale,
		MaxScale:            maxScale,
	}
}

// stored gives an object the metadata that owner references to it need. The
// values are fixed, so that answers can be compared.
func stored(object metav1.Object) {
	if object.GetUID() == "" {
		object.SetUID(types.UID("00000000-0000-4000-8000-000000000000"))
	}
	if object.GetNamespace() == "" {
		object.SetNamespace(metav1.NamespaceDefault)
	}
}

// parse reads the ConfigMaps with the constructors that Knative's webhook for
// ConfigMaps uses, so a value that it refuses is an error here too.
func (c knativeConfig) parse() (*revisionconfig.Config, error) {
	config := &revisionconfig.Config{Config: &apiconfig.Config{}}
	var err error
	if config.Features, err = apiconfig.NewFeaturesConfigFromMap(c.Features); err != nil {
		return nil, fmt.Errorf("config-features: %w", err)
	}
	if config.Defaults, err = apiconfig.NewDefaultsConfigFromMap(c.Defaults); err != nil {
		return nil, fmt.Errorf("config-defaults: %w", err)
	}
	if config.Autoscaler, err = autoscalerconfig.NewConfigFromMap(c.Autoscaler); err != nil {
		return nil, fmt.Errorf("config-autoscaler: %w", err)
	}
	// The one key that Knative has no default for.
	data := map[string]string{deployment.QueueSidecarImageKey: "queue-proxy"}
	for key, value := range c.Deployment {
		data[key] = value
	}
	if config.Deployment, err = deployment.NewConfigFromMap(data); err != nil {
		return nil, fmt.Errorf("config-deployment: %w", err)
	}
	if config.Network, err = netcfg.NewConfigFromMap(c.Network); err != nil {
		return nil, fmt.Errorf("config-network: %w", err)
	}
	if config.Observability, err = observability.NewFromMap(c.Observability); err != nil {
		return nil, fmt.Errorf("config-observability: %w", err)
	}
	if config.Logging, err = logging.NewConfigFromMap(c.Logging); err != nil {
		return nil, fmt.Errorf("config-logging: %w", err)
	}
	return config, nil
}
