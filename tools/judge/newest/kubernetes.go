package main

// This file and ../kubernetes.go hold what the two Kubernetes versions call differently.

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/generic"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/informers"
	clientfake "k8s.io/client-go/kubernetes/fake"
	"k8s.io/kubernetes/pkg/registry/resource/resourceclaim"
)

func newClaimStrategy() strategy {
	return resourceclaim.NewStrategy(clientfake.NewClientset().CoreV1().Namespaces(), allowAll)
}

func declareVariables(hasParams bool) cel.OptionalVariableDeclarations {
	return cel.OptionalVariableDeclarations{HasParams: hasParams, HasAuthorizer: true}
}

func baseEnvironment() *environment.EnvSet {
	return environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
}

func makeValidator(validations cel.ConditionEvaluator, matcher matchconditions.Matcher, audit, messages cel.ConditionEvaluator,
	failure *admissionregistrationv1.FailurePolicyType,
) validating.Validator {
	return validating.NewValidator(validations, matcher, audit, messages, failure, nil)
}

func collectParams(kind *admissionregistrationv1.ParamKind, informer informers.GenericInformer, scope meta.RESTScope,
	ref *admissionregistrationv1.ParamRef, namespace string,
) ([]runtime.Object, error) {
	return generic.CollectParams(kind, informer, scope, ref, namespace, nil, nil)
}
