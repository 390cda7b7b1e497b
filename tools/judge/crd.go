package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	"k8s.io/apiextensions-apiserver/pkg/crdserverscheme"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// knownCRDs keeps what earlier requests registered: KServe's definitions are
// megabytes, too much to send and compile with every object.
var knownCRDs = map[schema.GroupKind]*customKind{}

type customKind struct {
	definition *apiextensionsv1.CustomResourceDefinition
	versions   map[string]*customVersion
}

type customVersion struct {
	structural *structuralschema.Structural
	strategy   strategy
	openapi    *spec.Schema // made when a policy first asks for it
}

type crdRequest struct {
	header
	CRDs      []*apiextensionsv1.CustomResourceDefinition `json:"crds"`
	Object    json.RawMessage                             `json:"object"`
	OldObject json.RawMessage                             `json:"oldObject"`
}

// judgeCRD registers definitions, and judges an object by those registered.
func judgeCRD(request []byte) (any, error) {
	var r crdRequest
	if err := readRequest(request, &r); err != nil {
		return nil, err
	}
	for _, crd := range r.CRDs {
		if err := register(crd); err != nil {
			return nil, fmt.Errorf("%s: %w", crd.Name, err)
		}
	}
	if len(r.Object) == 0 {
		return map[string]any{"registered": len(r.CRDs)}, nil
	}
	return admitCustom(r.Object, r.OldObject)
}

func register(crd *apiextensionsv1.CustomResourceDefinition) error {
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
	kind := &customKind{definition: crd, versions: map[string]*customVersion{}}
	for _, version := range crd.Spec.Versions {
		compiled, err := compileVersion(crd, version.Name)
		if err != nil {
			return fmt.Errorf("%s: %w", version.Name, err)
		}
		kind.versions[version.Name] = compiled
	}
	knownCRDs[schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Spec.Names.Kind}] = kind
	return nil
}

func compileVersion(crd *apiextensionsv1.CustomResourceDefinition, version string) (*customVersion, error) {
	external, err := apihelpers.GetSchemaForVersion(crd, version)
	if err != nil {
		return nil, err
	}
	if external == nil || external.OpenAPIV3Schema == nil {
		return nil, errors.New("no schema")
	}
	var internal apiextensions.CustomResourceValidation
	if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(external, &internal, nil); err != nil {
		return nil, err
	}
	structural, err := structuralschema.NewStructural(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	structural = structural.DeepCopy()
	if err := defaulting.PruneDefaults(structural); err != nil {
		return nil, err
	}
	validator, _, err := validation.NewSchemaValidator(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	gvk := schema.GroupVersionKind{Group: crd.Spec.Group, Version: version, Kind: crd.Spec.Names.Kind}
	// Without the subresources the strategy keeps a given status, which lets a
	// test send an object as it was read from a cluster.
	return &customVersion{structural: structural, strategy: customresource.NewStrategy(
		crdserverscheme.NewUnstructuredObjectTyper(), crd.Spec.Scope == apiextensionsv1.NamespaceScoped,
		gvk, validator, nil, structural, nil, nil, nil,
	)}, nil
}

// admitCustom does what the API server does to a custom object, webhooks and
// admission plug-ins aside.
func admitCustom(raw, rawOld json.RawMessage) (*verdict, error) {
	answer := newVerdict()
	object, version, problems, err := decodeCustom(raw)
	if err != nil {
		return nil, err
	}
	answer.refuse(problems...)
	gvk := object.GroupVersionKind()
	recorder := &warningRecorder{}
	ctx := requestContext(version.strategy, gvk, object, recorder)
	if len(rawOld) == 0 {
		if object.GetName() == "" && object.GetGenerateName() != "" {
			object.SetName(version.strategy.GenerateName(object.GetGenerateName()))
		}
		rest.FillObjectMetaSystemFields(object)
		err = rest.BeforeCreate(version.strategy, ctx, object)
		forgetCreation(object)
	} else {
		old, _, _, oldErr := decodeCustom(rawOld)
		if oldErr != nil {
			return nil, fmt.Errorf("oldObject: %w", oldErr)
		}
		err = rest.BeforeUpdate(version.strategy, ctx, object, old)
	}
	answer.refuse(problemsOf(err)...)
	for _, text := range recorder.texts {
		answer.Warnings = append(answer.Warnings, problem{Message: text, Level: "warning"})
	}
	answer.Object = mustJSON(object)
	return &answer, nil
}

// decodeCustom reads an object with field validation Strict: what pruning
// would drop is a problem. Then the schema's defaults are filled in.
func decodeCustom(raw json.RawMessage) (*unstructured.Unstructured, *customVersion, []problem, error) {
	content := map[string]any{}
	problems := decodeStrict(raw, &content)
	object := &unstructured.Unstructured{Object: content}
	gvk := object.GroupVersionKind()
	kind, known := knownCRDs[gvk.GroupKind()]
	if !known {
		return nil, nil, nil, fmt.Errorf("no definition was registered for %s", gvk.GroupKind())
	}
	version, known := kind.versions[gvk.Version]
	if !known {
		return nil, nil, nil, fmt.Errorf("the definition has no version %s", gvk.Version)
	}
	meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(content, objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: true})
	if err != nil {
		return object, version, append(problems, problemsOf(err)...), nil
	}
	unknown = append(unknown, pruning.PruneWithOptions(content, version.structural, true,
		structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})...)
	defaulting.PruneNonNullableNullsWithoutDefaults(content, version.structural)
	fieldErr, paths := objectmeta.CoerceWithOptions(nil, content, version.structural, false, objectmeta.CoerceOptions{ReturnUnknownFieldPaths: true})
	if fieldErr != nil {
		problems = append(problems, problemsOf(fieldErr)...)
	}
	for _, path := range append(unknown, paths...) {
		problems = append(problems, problem{Message: "unknown field " + path, Paths: []string{path}, Reason: "Strict", Level: "error"})
	}
	if found {
		if err := objectmeta.SetObjectMeta(content, meta); err != nil {
			return nil, nil, nil, err
		}
	}
	object.SetGroupVersionKind(gvk)
	defaulting.Default(content, version.structural)
	return object, version, problems, nil
}

// customSchemas resolves registered kinds to the OpenAPI that the API server
// would publish for them: the type checker of policies reads nothing else.
type customSchemas struct{}

func (customSchemas) ResolveSchema(gvk schema.GroupVersionKind) (*spec.Schema, error) {
	kind, known := knownCRDs[gvk.GroupKind()]
	if !known || kind.versions[gvk.Version] == nil {
		return nil, fmt.Errorf("%s: %w", gvk, resolver.ErrSchemaNotFound)
	}
	version := kind.versions[gvk.Version]
	if version.openapi != nil {
		return version.openapi, nil
	}
	published, err := builder.BuildOpenAPIV3(kind.definition, gvk.Version, builder.Options{})
	if err != nil {
		return nil, err
	}
	named := func(ref string) (*spec.Schema, bool) {
		found, ok := published.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]
		return found, ok
	}
	for name, candidate := range published.Components.Schemas {
		var kinds []schema.GroupVersionKind
		if err := candidate.Extensions.GetObject("x-kubernetes-group-version-kind", &kinds); err != nil {
			return nil, err
		}
		if len(kinds) == 1 && kinds[0] == gvk {
			version.openapi, err = resolver.PopulateRefs(named, name)
			return version.openapi, err
		}
	}
	return nil, fmt.Errorf("%s: %w", gvk, resolver.ErrSchemaNotFound)
}
