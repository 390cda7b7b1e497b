package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/meta/testrestmapper"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/generic"
	"k8s.io/apiserver/pkg/admission/plugin/policy/matching"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/client-go/informers"
	clientfake "k8s.io/client-go/kubernetes/fake"
	listersv1 "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/generated/openapi"
)

type policyRequest struct {
	header
	Policies []json.RawMessage `json:"policies"`
	// Bindings may be left out: each policy is then enforced everywhere, once
	// per params object of its paramKind.
	Bindings []json.RawMessage          `json:"bindings"`
	Params   oneOrMany                  `json:"params"`
	Object   json.RawMessage            `json:"object"`
	Old      json.RawMessage            `json:"oldObject"`
	Verb     admission.Operation        `json:"operation"`
	Resource string                     `json:"resource"`
	Sub      string                     `json:"subresource"`
	Space    *corev1.Namespace          `json:"namespaceObject"`
	UserInfo *authenticationv1.UserInfo `json:"userInfo"`
	DryRun   bool                       `json:"dryRun"`
	Options  *metav1.UpdateOptions      `json:"options"`
}

type policyVerdict struct {
	Policy  string   `json:"policy"`
	Binding string   `json:"binding,omitempty"`
	Actions []string `json:"actions,omitempty"`
	// Matched is false where a rule, a selector or a match condition says
	// that the policy does not concern the request.
	Matched bool `json:"matched"`
	// Allowed says that no validation denied; whether a binding would only
	// warn or audit, is in Actions.
	Allowed bool     `json:"allowed"`
	Denials []denial `json:"denials"`
	// Errors are those of the policy itself: refused by the API server, or
	// expressions that do not compile or fail as they run.
	Errors []problem `json:"errors"`
	// Warnings are what the API server would write into the policy's
	// status: expressions that do not fit the types of what they match.
	Warnings []problem `json:"warnings,omitempty"`
}

type denial struct {
	Message    string `json:"message"`
	Reason     string `json:"reason,omitempty"`
	Expression string `json:"expression,omitempty"`
}

func judgePolicies(request []byte) (any, error) {
	var r policyRequest
	if err := readRequest(request, &r); err != nil {
		return nil, err
	}
	bindings, err := r.bindings()
	if err != nil {
		return nil, err
	}
	review, err := r.review()
	if err != nil {
		return nil, err
	}
	results := []policyVerdict{}
	for _, raw := range r.Policies {
		compiled, err := compilePolicy(raw)
		if err != nil {
			return nil, err
		}
		found, err := review.judge(compiled, bindings)
		if err != nil {
			return nil, err
		}
		results = append(results, found...)
	}
	return map[string]any{"results": results}, nil
}

// oneOrMany lets a request leave out the brackets around a single object.
type oneOrMany []*unstructured.Unstructured

func (o *oneOrMany) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(data, &raws); err != nil {
		raws = []json.RawMessage{data}
	}
	for _, raw := range raws {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(raw); err != nil {
			return err
		}
		*o = append(*o, object)
	}
	return nil
}

// A compiledPolicy is kept for the next request: compiling costs more than
// judging, and a test run sends the same few policies over and over.
type compiledPolicy struct {
	policy    *admissionregistrationv1.ValidatingAdmissionPolicy
	validator validating.Validator
	errors    []problem
	warnings  []problem
}

var (
	compiledPolicies = map[string]*compiledPolicy{}
	// Warnings depend on the definitions that were registered by then.
	compiledForCRDs = -1
)

func compilePolicy(raw json.RawMessage) (*compiledPolicy, error) {
	if compiledForCRDs != len(knownCRDs) {
		clear(compiledPolicies)
		compiledForCRDs = len(knownCRDs)
	}
	if known, ok := compiledPolicies[string(raw)]; ok {
		return known, nil
	}
	// Validating also defaults, and a policy without its defaults (failure
	// policy, match policy, scope) means something else.
	admitted, err := admitBuiltin(raw, nil)
	if err != nil {
		return nil, err
	}
	compiled := &compiledPolicy{policy: &admissionregistrationv1.ValidatingAdmissionPolicy{}, errors: admitted.Errors}
	if admitted.Object == nil {
		return nil, fmt.Errorf("policy: %s", admitted.Errors[0].Message)
	}
	if err := json.Unmarshal(admitted.Object, compiled.policy); err != nil {
		return nil, err
	}
	compiled.validator = newValidator(compiled.policy)
	checker := validating.TypeChecker{SchemaResolver: schemas(), RestMapper: restMapper()}
	for _, found := range checker.Check(compiled.policy) {
		compiled.warnings = append(compiled.warnings, problem{Message: found.Warning, Paths: []string{found.FieldRef}, Level: "warning"})
	}
	compiledPolicies[string(raw)] = compiled
	return compiled, nil
}

// newValidator puts the API server's compiler and evaluators together. The
// plug-in does so in a function it keeps to itself; the parts are public.
func newValidator(policy *admissionregistrationv1.ValidatingAdmissionPolicy) validating.Validator {
	declared := declareVariables(policy.Spec.ParamKind != nil)
	inMessages := declared
	inMessages.HasAuthorizer = false // the API has no authorizer in messages

	compiler, err := cel.NewCompositedCompiler(baseEnvironment())
	if err != nil {
		panic(err)
	}
	var variables []cel.NamedExpressionAccessor
	for _, variable := range policy.Spec.Variables {
		variables = append(variables, &validating.Variable{Name: variable.Name, Expression: variable.Expression})
	}
	compiler.CompileAndStoreVariables(variables, declared, environment.StoredExpressions)

	var conditions []cel.ExpressionAccessor
	for i := range policy.Spec.MatchConditions {
		conditions = append(conditions, (*matchconditions.MatchCondition)(&policy.Spec.MatchConditions[i]))
	}
	var matcher matchconditions.Matcher
	if len(conditions) > 0 {
		matcher = matchconditions.NewMatcher(compiler.CompileCondition(conditions, declared, environment.StoredExpressions),
			policy.Spec.FailurePolicy, "policy", "validate", policy.Name)
	}
	// Messages go by the index of their validation: a nil holds the place.
	messages := make([]cel.ExpressionAccessor, len(policy.Spec.Validations))
	var validations []cel.ExpressionAccessor
	for i, one := range policy.Spec.Validations {
		validations = append(validations, &validating.ValidationCondition{Expression: one.Expression, Message: one.Message, Reason: one.Reason})
		if one.MessageExpression != "" {
			messages[i] = &validating.MessageExpressionCondition{MessageExpression: one.MessageExpression}
		}
	}
	return makeValidator(
		compiler.CompileCondition(validations, declared, environment.StoredExpressions),
		matcher,
		compiler.CompileCondition(nil, declared, environment.StoredExpressions), // audit annotations decide nothing
		compiler.CompileCondition(messages, inMessages, environment.StoredExpressions),
		policy.Spec.FailurePolicy,
	)
}

// A review is one request to the API server, ready for the policies.
type review struct {
	attributes admission.Attributes
	interfaces admission.ObjectInterfaces
	matcher    generic.PolicyMatcher
	namespace  *corev1.Namespace
	params     oneOrMany
}

func (r *policyRequest) review() (*review, error) {
	var object, old runtime.Object
	var seen *unstructured.Unstructured
	for _, one := range []struct {
		raw  json.RawMessage
		into *runtime.Object
	}{{r.Old, &old}, {r.Object, &object}} {
		if len(one.raw) == 0 || string(one.raw) == "null" {
			continue
		}
		decoded, err := admittedForm(one.raw)
		if err != nil {
			return nil, err
		}
		*one.into, seen = decoded, decoded
	}
	if seen == nil {
		return nil, fmt.Errorf("neither object nor oldObject was given")
	}
	gvk := seen.GroupVersionKind()
	gvr, namespaced := resourceOf(gvk)
	if r.Resource != "" {
		gvr.Resource = r.Resource
	}
	at := ""
	if namespaced {
		if at = seen.GetNamespace(); at == "" {
			at = metav1.NamespaceDefault
		}
	}
	if r.Verb == "" {
		r.Verb = admission.Create
	}
	result := &review{params: r.Params, interfaces: admission.NewObjectInterfacesFromScheme(legacyscheme.Scheme)}
	// A patch reaches admission with the options of an update.
	var options runtime.Object
	if r.Options != nil {
		options = r.Options
	}
	result.attributes = admission.NewAttributesRecord(object, old, gvk, at, seen.GetName(), gvr, r.Sub, r.Verb, options, r.DryRun, userOf(r.UserInfo))

	spaces := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	if at != "" {
		result.namespace = &corev1.Namespace{}
		if r.Space != nil {
			result.namespace = r.Space.DeepCopy()
		}
		result.namespace.Name = at
		if result.namespace.Labels == nil {
			result.namespace.Labels = map[string]string{}
		}
		result.namespace.Labels[corev1.LabelMetadataName] = at // the API server sets it on every namespace
		if err := spaces.Add(result.namespace); err != nil {
			return nil, err
		}
	}
	result.matcher = generic.NewPolicyMatcher(matching.NewMatcher(listersv1.NewNamespaceLister(spaces), emptyCluster()))
	return result, nil
}

var emptyCluster = sync.OnceValue(func() *clientfake.Clientset { return clientfake.NewClientset() })

// admittedForm is the object as policies see it: built-in kinds defaulted,
// others as given (send what the judge of their webhook answered).
func admittedForm(raw json.RawMessage) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(raw); err != nil {
		return nil, err
	}
	gvk := object.GroupVersionKind()
	if !legacyscheme.Scheme.Recognizes(gvk) {
		return object, nil
	}
	typed, err := legacyscheme.Scheme.New(gvk)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, typed); err != nil {
		return nil, err
	}
	legacyscheme.Scheme.Default(typed)
	object.Object, err = runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	return object, err
}

// resourceOf prefers what the API and the definitions say over a guess.
func resourceOf(gvk schema.GroupVersionKind) (schema.GroupVersionResource, bool) {
	if mapping, err := restMapper().RESTMapping(gvk.GroupKind(), gvk.Version); err == nil {
		return mapping.Resource, mapping.Scope.Name() == meta.RESTScopeNameNamespace
	}
	plural, _ := meta.UnsafeGuessKindToResource(gvk)
	return plural, true
}

func restMapper() meta.RESTMapper {
	custom := meta.NewDefaultRESTMapper(nil)
	for groupKind, kind := range knownCRDs {
		scope := meta.RESTScopeNamespace
		if string(kind.definition.Spec.Scope) == "Cluster" {
			scope = meta.RESTScopeRoot
		}
		names := kind.definition.Spec.Names
		for version := range kind.versions {
			gv := schema.GroupVersion{Group: groupKind.Group, Version: version}
			custom.AddSpecific(gv.WithKind(groupKind.Kind), gv.WithResource(names.Plural), gv.WithResource(names.Singular), scope)
		}
	}
	return meta.MultiRESTMapper{custom, builtinMapper()}
}

var builtinMapper = sync.OnceValue(func() meta.RESTMapper {
	return testrestmapper.TestOnlyStaticRESTMapper(legacyscheme.Scheme)
})

var builtinSchemas = sync.OnceValue(func() *resolver.DefinitionsSchemaResolver {
	return resolver.NewDefinitionsSchemaResolver(openapi.GetOpenAPIDefinitions, legacyscheme.Scheme)
})

func schemas() resolver.SchemaResolver { return builtinSchemas().Combine(customSchemas{}) }

func userOf(info *authenticationv1.UserInfo) user.Info {
	if info == nil {
		return &user.DefaultInfo{Name: "judge", Groups: []string{user.AllAuthenticated}}
	}
	extra := map[string][]string{}
	for key, value := range info.Extra {
		extra[key] = value
	}
	return &user.DefaultInfo{Name: info.Username, UID: info.UID, Groups: info.Groups, Extra: extra}
}

func (r *policyRequest) bindings() (map[string][]*admissionregistrationv1.ValidatingAdmissionPolicyBinding, error) {
	if r.Bindings == nil {
		return nil, nil
	}
	found := map[string][]*admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
	for _, raw := range r.Bindings {
		admitted, err := admitBuiltin(raw, nil)
		if err != nil {
			return nil, err
		}
		if !admitted.OK {
			return nil, fmt.Errorf("binding: %s", admitted.Errors[0].Message)
		}
		binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
		if err := json.Unmarshal(admitted.Object, binding); err != nil {
			return nil, err
		}
		found[binding.Spec.PolicyName] = append(found[binding.Spec.PolicyName], binding)
	}
	return found, nil
}

// judge gives one verdict a binding, or one in all where no bindings came.
func (r *review) judge(compiled *compiledPolicy, bindings map[string][]*admissionregistrationv1.ValidatingAdmissionPolicyBinding) ([]policyVerdict, error) {
	blank := policyVerdict{
		Policy: compiled.policy.Name, Allowed: true, Denials: []denial{}, Errors: append([]problem{}, compiled.errors...), Warnings: compiled.warnings,
	}
	matched, resource, kind, err := r.matcher.DefinitionMatches(r.attributes, r.interfaces, validating.NewValidatingAdmissionPolicyAccessor(compiled.policy))
	if err != nil {
		blank.Errors = append(blank.Errors, problemsOf(err)...)
	}
	if err != nil || !matched {
		return []policyVerdict{blank}, nil
	}
	versioned, err := admission.NewVersionedAttributes(r.attributes, kind, r.interfaces)
	if err != nil {
		return nil, err
	}
	if bindings == nil {
		r.evaluate(&blank, compiled, resource, versioned, r.paramsOf(compiled.policy.Spec.ParamKind))
		return []policyVerdict{blank}, nil
	}
	found := []policyVerdict{}
	for _, binding := range bindings[compiled.policy.Name] {
		one := blank
		one.Binding = binding.Name
		one.Errors = append([]problem{}, blank.Errors...)
		for _, action := range binding.Spec.ValidationActions {
			one.Actions = append(one.Actions, string(action))
		}
		matched, err := r.matcher.BindingMatches(r.attributes, r.interfaces, validating.NewValidatingAdmissionPolicyBindingAccessor(binding))
		one.Errors = append(one.Errors, problemsOf(err)...)
		if matched && err == nil {
			params, err := r.boundParams(compiled.policy.Spec.ParamKind, binding)
			if err != nil {
				// A binding that cannot be configured denies, or is ignored,
				// as the policy's failure policy says.
				one.Errors = append(one.Errors, problemsOf(err)...)
				one.Matched = true
				one.Allowed = *compiled.policy.Spec.FailurePolicy == admissionregistrationv1.Ignore
			}
			r.evaluate(&one, compiled, resource, versioned, params)
		}
		found = append(found, one)
	}
	return found, nil
}

func (r *review) evaluate(answer *policyVerdict, compiled *compiledPolicy, resource schema.GroupVersionResource, versioned *admission.VersionedAttributes, params []runtime.Object) {
	validations := compiled.policy.Spec.Validations
	for _, param := range params {
		result := compiled.validator.Validate(context.Background(), resource, versioned, param, r.namespace,
			celconfig.RuntimeCELCostBudget, authorizerfactory.NewAlwaysDenyAuthorizer())
		// The validator decides nothing if a match condition is false.
		answer.Matched = answer.Matched || len(result.Decisions) > 0
		for i, decision := range result.Decisions {
			if decision.Evaluation == validating.EvalError {
				answer.Errors = append(answer.Errors, problem{Message: decision.Message, Reason: "Evaluation", Level: "error"})
			}
			if decision.Action != validating.ActionDeny {
				continue
			}
			answer.Allowed = false
			refused := denial{Message: decision.Message, Reason: string(decision.Reason)}
			if len(result.Decisions) == len(validations) {
				refused.Expression = validations[i].Expression
			}
			answer.Denials = append(answer.Denials, refused)
		}
	}
}

// paramsOf picks the given params of a policy's kind. The nil stands for
// "none": the validator wants one call in any case.
func (r *review) paramsOf(kind *admissionregistrationv1.ParamKind) []runtime.Object {
	var found []runtime.Object
	for _, param := range r.params {
		if kind != nil && param.GetAPIVersion() == kind.APIVersion && param.GetKind() == kind.Kind {
			found = append(found, param)
		}
	}
	if found == nil {
		found = []runtime.Object{nil}
	}
	return found
}

// boundParams leaves it to upstream which params a binding selects.
func (r *review) boundParams(kind *admissionregistrationv1.ParamKind, binding *admissionregistrationv1.ValidatingAdmissionPolicyBinding) ([]runtime.Object, error) {
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	scope := meta.RESTScope(meta.RESTScopeRoot)
	if kind != nil {
		gvk := schema.FromAPIVersionAndKind(kind.APIVersion, kind.Kind)
		if _, namespaced := resourceOf(gvk); namespaced {
			scope = meta.RESTScopeNamespace
		}
		for _, param := range r.paramsOf(kind) {
			if param == nil {
				continue
			}
			if err := store.Add(param); err != nil {
				return nil, err
			}
		}
	}
	return collectParams(kind, syncedStore{store}, scope, binding.Spec.ParamRef, r.attributes.GetNamespace())
}

// syncedStore is an informer that has nothing left to fetch.
type syncedStore struct{ indexer cache.Indexer }

var _ informers.GenericInformer = syncedStore{}

func (s syncedStore) Informer() cache.SharedIndexInformer { return alwaysSynced{} }

func (s syncedStore) Lister() cache.GenericLister {
	return cache.NewGenericLister(s.indexer, schema.GroupResource{Resource: "params"})
}

// alwaysSynced answers the one question that is asked of it.
type alwaysSynced struct{ cache.SharedIndexInformer }

func (alwaysSynced) HasSynced() bool { return true }
