package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/go-logr/logr"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"github.com/kserve/kserve/pkg/apis/serving/v1alpha1"
	"github.com/kserve/kserve/pkg/apis/serving/v1beta1"
	"github.com/kserve/kserve/pkg/constants"
	knutils "github.com/kserve/kserve/pkg/controller/v1alpha1/utils"
	"github.com/kserve/kserve/pkg/controller/v1beta1/inferenceservice/components"
	isvcutils "github.com/kserve/kserve/pkg/controller/v1beta1/inferenceservice/utils"
	"github.com/kserve/kserve/pkg/utils"
	otelv1beta1 "github.com/open-telemetry/opentelemetry-operator/apis/v1beta1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientfake "k8s.io/client-go/kubernetes/fake"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

func init() {
	judges["kserve"] = judgeKServe
	ctrllog.SetLogger(logr.Discard())
}

type kserveRequest struct {
	header
	Object    json.RawMessage `json:"object"`
	OldObject json.RawMessage `json:"oldObject"`
	Config    struct {
		knativeConfig
		InferenceService map[string]string `json:"inferenceservice"`
	} `json:"config"`
	// Runtimes holds ServingRuntimes and ClusterServingRuntimes, Objects
	// whatever else should be in the cluster (ClusterStorageContainers,
	// Secrets, ServiceAccounts, …).
	Runtimes []json.RawMessage `json:"runtimes"`
	Objects  []json.RawMessage `json:"objects"`
}

type kserveVerdict struct {
	verdict
	// Works is false where the webhook accepts an InferenceService that the
	// controller cannot reconcile or turns into something that is refused.
	Works          bool   `json:"works"`
	DeploymentMode string `json:"deploymentMode,omitempty"`
	// ReconcileError is the controller's, word for word.
	ReconcileError string `json:"reconcileError,omitempty"`

	// These three are the predictor's.
	KSVC    json.RawMessage `json:"ksvc"`
	Knative *knativeVerdict `json:"knative"`
	HPA     *verdict        `json:"hpa"`
	// Made lists every object the controller created, its components' in
	// the order predictor, transformer, explainer.
	Made []madeObject `json:"made"`
}

type madeObject struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Verdict is absent where no rule is linked for the kind.
	Verdict *verdict        `json:"verdict,omitempty"`
	Knative *knativeVerdict `json:"knative,omitempty"`
	Object  json.RawMessage `json:"object,omitempty"`
}

// minimalKServe holds the keys without which the controller does not start, or
// panics, or (inferenceService) forgets its own list of annotations that do not
// reach the template. Any of them can be given in the request instead.
var minimalKServe = map[string]string{
	v1beta1.DeployConfigName:                   `{"defaultDeploymentMode": "Knative"}`,
	v1beta1.IngressConfigKeyName:               `{"ingressGateway": "knative-serving/knative-ingress-gateway", "disableIstioVirtualHost": true, "disableIngressCreation": true, "ingressDomain": "example.com"}`,
	v1beta1.InferenceServiceConfigKeyName:      `{}`,
	v1beta1.StorageInitializerConfigMapKeyName: `{"image": "storage-initializer", "memoryRequest": "100Mi", "memoryLimit": "1Gi", "cpuRequest": "100m", "cpuLimit": "1"}`,
}

func judgeKServe(request []byte) (any, error) {
	var r kserveRequest
	if err := readRequest(request, &r); err != nil {
		return nil, err
	}
	configMap := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: constants.InferenceServiceConfigMapName, Namespace: constants.KServeNamespace},
		Data:       map[string]string{},
	}
	for _, data := range []map[string]string{minimalKServe, r.Config.InferenceService} {
		for key, value := range data {
			configMap.Data[key] = value
		}
	}

	answer := &kserveVerdict{verdict: newVerdict(), Made: []madeObject{}}
	isvc := &v1beta1.InferenceService{}
	answer.refuse(decodeStrict(r.Object, isvc)...)
	if !answer.OK {
		return answer, nil
	}
	if err := defaultISVC(isvc, configMap); err != nil {
		return nil, err
	}
	warnings, err := validateISVC(isvc, r.OldObject, configMap)
	answer.refuse(problemsOf(err)...)
	for _, text := range warnings {
		answer.Warnings = append(answer.Warnings, problem{Message: text, Level: "warning"})
	}
	answer.Object = mustJSON(isvc)
	if !answer.OK {
		return answer, nil
	}
	return answer, answer.reconcile(r, isvc, configMap)
}

// defaultISVC is the body of the mutating webhook after it has fetched its
// ConfigMap. Local model caches would need a cluster and are left out.
func defaultISVC(isvc *v1beta1.InferenceService, configMap *corev1.ConfigMap) error {
	services, err := v1beta1.NewInferenceServicesConfig(configMap)
	if err != nil {
		return err
	}
	deploy, err := v1beta1.NewDeployConfig(configMap)
	if err != nil {
		return err
	}
	security, err := v1beta1.NewSecurityConfig(configMap)
	if err != nil {
		return err
	}
	isvc.DefaultInferenceService(services, deploy, security, nil, nil)
	return nil
}

func validateISVC(isvc *v1beta1.InferenceService, rawOld json.RawMessage, configMap *corev1.ConfigMap) ([]string, error) {
	validator := &v1beta1.InferenceServiceValidator{}
	if len(rawOld) == 0 {
		return validator.ValidateCreate(context.Background(), isvc)
	}
	old := &v1beta1.InferenceService{}
	if problems := decodeStrict(rawOld, old); problems != nil {
		return nil, fmt.Errorf("oldObject: %s", problems[0].Message)
	}
	if err := defaultISVC(old, configMap); err != nil {
		return nil, err
	}
	return validator.ValidateUpdate(context.Background(), old, isvc)
}

// reconcile runs KServe's own component reconcilers against a cluster in
// memory, and collects what they created in it.
func (answer *kserveVerdict) reconcile(r kserveRequest, isvc *v1beta1.InferenceService, configMap *corev1.ConfigMap) error {
	ctx := context.Background()
	stored(isvc)
	existing, err := decodeKnown(slices.Concat(r.Runtimes, r.Objects))
	if err != nil {
		return err
	}
	autoscaler := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: constants.AutoscalerConfigmapName, Namespace: constants.AutoscalerConfigmapNamespace},
		Data:       r.Config.Autoscaler,
	}
	clientset := clientfake.NewClientset(configMap, autoscaler)
	cluster := fake.NewClientBuilder().WithScheme(kserveScheme()).WithObjects(existing...).Build()

	services, err := v1beta1.NewInferenceServicesConfig(configMap)
	if err != nil {
		return err
	}
	deploy, err := v1beta1.NewDeployConfig(configMap)
	if err != nil {
		return err
	}
	annotations := utils.Filter(isvc.Annotations, func(key string) bool {
		return !utils.Includes(services.ServiceAnnotationDisallowedList, key)
	})
	mode := isvcutils.GetDeploymentMode(isvc.Status.DeploymentMode, annotations, deploy)
	answer.DeploymentMode = string(mode)
	isvc.Status.InitializeConditions()
	if mode == constants.Knative {
		allowed, err := knutils.CheckZeroInitialScaleAllowed(ctx, clientset)
		if err != nil {
			return err
		}
		knutils.ValidateInitialScaleAnnotation(isvc.Annotations, allowed, logr.Discard())
	}

	reconcilers := []components.Component{components.NewPredictor(cluster, clientset, kserveScheme(), services, mode)}
	if isvc.Spec.Transformer != nil {
		reconcilers = append(reconcilers, components.NewTransformer(cluster, clientset, kserveScheme(), services, mode))
	}
	if isvc.Spec.Explainer != nil {
		reconcilers = append(reconcilers, components.NewExplainer(cluster, clientset, kserveScheme(), services, mode))
	}
	answer.Works = true
	for _, one := range reconcilers {
		// A requeue only means "not ready yet": nothing runs here.
		if _, err := one.Reconcile(ctx, isvc); err != nil {
			answer.ReconcileError, answer.Works = err.Error(), false
			break
		}
	}
	return answer.collect(ctx, cluster, isvc, r.Config.knativeConfig)
}

// collect judges what the reconcilers left in the cluster.
func (answer *kserveVerdict) collect(ctx context.Context, cluster client.Client, isvc *v1beta1.InferenceService, config knativeConfig) error {
	for _, list := range []client.ObjectList{
		&servingv1.ServiceList{}, &appsv1.DeploymentList{}, &corev1.ServiceList{},
		&autoscalingv2.HorizontalPodAutoscalerList{}, &kedav1alpha1.ScaledObjectList{}, &otelv1beta1.OpenTelemetryCollectorList{},
	} {
		if err := cluster.List(ctx, list, client.InNamespace(isvc.Namespace)); err != nil {
			return err
		}
		items, err := meta.ExtractList(list)
		if err != nil {
			return err
		}
		for _, item := range items {
			object := item.(client.Object)
			if !metav1.IsControlledBy(object, isvc) {
				continue
			}
			predictor := object.GetName() == constants.PredictorServiceName(isvc.Name, isvc.Spec.Predictor.Name)
			if err := answer.add(object, predictor, config); err != nil {
				return err
			}
		}
	}
	return nil
}

func (answer *kserveVerdict) add(object client.Object, predictor bool, config knativeConfig) error {
	gvk, err := apiutil.GVKForObject(object, kserveScheme())
	if err != nil {
		return err
	}
	object.GetObjectKind().SetGroupVersionKind(gvk)
	object.SetResourceVersion("")
	made := madeObject{Kind: gvk.Kind, Name: object.GetName()}
	raw := mustJSON(object)
	switch object.(type) {
	case *servingv1.Service:
		if made.Knative, err = admitKnative(knativeRequest{Object: raw, Config: config}); err != nil {
			return err
		}
		answer.Works = answer.Works && made.Knative.Works
		if predictor {
			answer.KSVC, answer.Knative = raw, made.Knative
			made.Knative = nil // said once
		} else {
			made.Object = raw
		}
	case *kedav1alpha1.ScaledObject, *otelv1beta1.OpenTelemetryCollector:
		made.Object = raw
	default:
		judged, err := admitBuiltin(raw, nil)
		if err != nil {
			return err
		}
		answer.Works = answer.Works && judged.OK
		if gvk.Kind == "HorizontalPodAutoscaler" && predictor {
			answer.HPA = judged
		} else {
			made.Verdict = judged
		}
	}
	answer.Made = append(answer.Made, made)
	return nil
}

// decodeKnown reads objects of any kind KServe's manager knows.
func decodeKnown(raws []json.RawMessage) ([]client.Object, error) {
	var found []client.Object
	for _, raw := range raws {
		var kind metav1.TypeMeta
		if err := json.Unmarshal(raw, &kind); err != nil {
			return nil, err
		}
		object, err := kserveScheme().New(kind.GroupVersionKind())
		if err != nil {
			return nil, err
		}
		if problems := decodeStrict(raw, object); problems != nil {
			return nil, fmt.Errorf("%s: %s", kind.Kind, problems[0].Message)
		}
		found = append(found, object.(client.Object))
	}
	return found, nil
}

// kserveScheme is the manager's, less the ingress kinds nothing here makes.
var kserveScheme = sync.OnceValue(func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, v1alpha1.AddToScheme, v1beta1.AddToScheme,
		servingv1.AddToScheme, kedav1alpha1.AddToScheme, otelv1beta1.AddToScheme,
	} {
		utilruntime.Must(add(scheme))
	}
	return scheme
})
