package main

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
	clientfake "k8s.io/client-go/kubernetes/fake"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	internaladmission "k8s.io/kubernetes/pkg/apis/admissionregistration"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	_ "k8s.io/kubernetes/pkg/apis/resource/install"
	_ "k8s.io/kubernetes/pkg/apis/scheduling/install"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/resolver"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicy"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicybinding"
	"k8s.io/kubernetes/pkg/registry/apps/daemonset"
	"k8s.io/kubernetes/pkg/registry/apps/deployment"
	"k8s.io/kubernetes/pkg/registry/apps/statefulset"
	"k8s.io/kubernetes/pkg/registry/autoscaling/horizontalpodautoscaler"
	"k8s.io/kubernetes/pkg/registry/batch/cronjob"
	"k8s.io/kubernetes/pkg/registry/batch/job"
	"k8s.io/kubernetes/pkg/registry/core/configmap"
	"k8s.io/kubernetes/pkg/registry/core/limitrange"
	"k8s.io/kubernetes/pkg/registry/core/namespace"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim"
	"k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/pkg/registry/core/resourcequota"
	"k8s.io/kubernetes/pkg/registry/core/secret"
	"k8s.io/kubernetes/pkg/registry/core/service"
	"k8s.io/kubernetes/pkg/registry/core/serviceaccount"
	"k8s.io/kubernetes/pkg/registry/networking/ingress"
	"k8s.io/kubernetes/pkg/registry/networking/networkpolicy"
	"k8s.io/kubernetes/pkg/registry/policy/poddisruptionbudget"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrole"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrolebinding"
	"k8s.io/kubernetes/pkg/registry/rbac/role"
	"k8s.io/kubernetes/pkg/registry/rbac/rolebinding"
	"k8s.io/kubernetes/pkg/registry/resource/deviceclass"
	"k8s.io/kubernetes/pkg/registry/resource/resourceclaimtemplate"
	"k8s.io/kubernetes/pkg/registry/scheduling/priorityclass"
)

// A strategy is what the API server's storage runs before it stores an object:
// it drops fields that users may not set, then validates. Going through it,
// rather than calling a validation function, also checks the metadata.
type strategy interface {
	rest.RESTCreateStrategy
	rest.RESTUpdateStrategy
}

var strategies = map[schema.GroupKind]strategy{
	{Kind: "ConfigMap"}:             configmap.Strategy,
	{Kind: "LimitRange"}:            limitrange.Strategy,
	{Kind: "Namespace"}:             namespace.Strategy,
	{Kind: "PersistentVolumeClaim"}: persistentvolumeclaim.Strategy,
	{Kind: "Pod"}:                   pod.Strategy,
	{Kind: "ResourceQuota"}:         resourcequota.Strategy,
	{Kind: "Secret"}:                secret.Strategy,
	{Kind: "Service"}:               service.Strategy,
	{Kind: "ServiceAccount"}:        serviceaccount.Strategy,

	{Group: "apps", Kind: "DaemonSet"}:                               daemonset.Strategy,
	{Group: "apps", Kind: "Deployment"}:                              deployment.Strategy,
	{Group: "apps", Kind: "StatefulSet"}:                             statefulset.Strategy,
	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}:          horizontalpodautoscaler.Strategy,
	{Group: "batch", Kind: "CronJob"}:                                cronjob.Strategy,
	{Group: "batch", Kind: "Job"}:                                    job.Strategy,
	{Group: "networking.k8s.io", Kind: "Ingress"}:                    ingress.Strategy,
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}:              networkpolicy.Strategy,
	{Group: "policy", Kind: "PodDisruptionBudget"}:                   poddisruptionbudget.Strategy,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}:        clusterrole.Strategy,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}: clusterrolebinding.Strategy,
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}:               role.Strategy,
	{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}:        rolebinding.Strategy,
	{Group: "resource.k8s.io", Kind: "DeviceClass"}:                  deviceclass.Strategy,
	{Group: "resource.k8s.io", Kind: "ResourceClaim"}:                newClaimStrategy(),
	{Group: "resource.k8s.io", Kind: "ResourceClaimTemplate"}:        resourceclaimtemplate.NewStrategy(clientfake.NewClientset().CoreV1().Namespaces()),
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:              priorityclass.Strategy,
	{Group: policyGroup, Kind: "ValidatingAdmissionPolicy"}:          validatingadmissionpolicy.NewStrategy(allowAll, guessResource),
	{Group: policyGroup, Kind: "ValidatingAdmissionPolicyBinding"}:   validatingadmissionpolicybinding.NewStrategy(allowAll, noPolicies{}, guessResource),
}

const policyGroup = internaladmission.GroupName

var (
	// Policies may name a params kind only if their author may read it. Who
	// the author is, is not this program's question.
	allowAll = authorizerfactory.NewAlwaysAllowAuthorizer()

	guessResource = resolver.ResourceResolverFunc(func(gvk schema.GroupVersionKind) (schema.GroupVersionResource, error) {
		plural, _ := meta.UnsafeGuessKindToResource(gvk)
		return plural, nil
	})

	builtinCodecs = serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict)
)

// noPolicies is asked for a binding's policy only to authorize its params.
type noPolicies struct{}

func (noPolicies) GetValidatingAdmissionPolicy(context.Context, string) (*internaladmission.ValidatingAdmissionPolicy, error) {
	return &internaladmission.ValidatingAdmissionPolicy{}, nil
}

type builtinRequest struct {
	header
	Object    json.RawMessage `json:"object"`
	OldObject json.RawMessage `json:"oldObject"`
}

func judgeBuiltin(request []byte) (any, error) {
	var r builtinRequest
	if err := readRequest(request, &r); err != nil {
		return nil, err
	}
	return admitBuiltin(r.Object, r.OldObject)
}

// admitBuiltin does what the API server does to a built-in object between the
// wire and its storage, admission plug-ins aside.
func admitBuiltin(raw, rawOld json.RawMessage) (*verdict, error) {
	answer := newVerdict()
	object, gvk, err := builtinCodecs.UniversalDecoder().Decode(raw, nil, nil)
	if err != nil {
		answer.refuse(problemsOf(err)...)
		if object == nil || !runtime.IsStrictDecodingError(err) {
			return &answer, nil
		}
	}
	chosen, known := strategies[gvk.GroupKind()]
	if !known {
		return nil, fmt.Errorf("no strategy for %s", gvk)
	}
	accessor, err := meta.Accessor(object)
	if err != nil {
		return nil, err
	}
	recorder := &warningRecorder{}
	ctx := requestContext(chosen, *gvk, accessor, recorder)
	if len(rawOld) == 0 {
		// The storage generates the name before the strategy sees the object.
		if accessor.GetName() == "" && accessor.GetGenerateName() != "" {
			accessor.SetName(chosen.GenerateName(accessor.GetGenerateName()))
		}
		rest.FillObjectMetaSystemFields(accessor)
		err = rest.BeforeCreate(chosen, ctx, object)
		forgetCreation(accessor)
	} else {
		var old runtime.Object
		if old, _, err = builtinCodecs.UniversalDecoder().Decode(rawOld, nil, nil); err != nil {
			return nil, fmt.Errorf("oldObject: %w", err)
		}
		err = rest.BeforeUpdate(chosen, ctx, object, old)
	}
	answer.refuse(problemsOf(err)...)
	for _, text := range recorder.texts {
		answer.Warnings = append(answer.Warnings, problem{Message: text, Level: "warning"})
	}
	answer.Object, err = runtime.Encode(builtinCodecs.LegacyCodec(gvk.GroupVersion()), object)
	return &answer, err
}

// forgetCreation drops what differs from run to run: equal requests shall have
// equal answers.
func forgetCreation(object metav1.Object) {
	object.SetUID("")
	object.SetCreationTimestamp(metav1.Time{})
}

// requestContext is what the API server's filters would have put around the
// request: strategies read the namespace, the version and the user from it.
func requestContext(chosen strategy, gvk schema.GroupVersionKind, object metav1.Object, recorder *warningRecorder) context.Context {
	plural, _ := meta.UnsafeGuessKindToResource(gvk)
	at := ""
	if chosen.NamespaceScoped() {
		if at = object.GetNamespace(); at == "" {
			at = metav1.NamespaceDefault
		}
	}
	ctx := genericapirequest.WithNamespace(context.Background(), at)
	ctx = genericapirequest.WithUser(ctx, &user.DefaultInfo{Name: "judge", Groups: []string{user.AllAuthenticated}})
	ctx = genericapirequest.WithRequestInfo(ctx, &genericapirequest.RequestInfo{
		IsResourceRequest: true, Verb: "create", APIGroup: gvk.Group, APIVersion: gvk.Version,
		Resource: plural.Resource, Namespace: at, Name: object.GetName(),
	})
	return warning.WithWarningRecorder(ctx, recorder)
}

type warningRecorder struct{ texts []string }

func (r *warningRecorder) AddWarning(_, text string) { r.texts = append(r.texts, text) }
