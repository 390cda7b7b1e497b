package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/argoproj/gitops-engine/pkg/diff"
	argosync "github.com/argoproj/gitops-engine/pkg/sync"
	"github.com/argoproj/gitops-engine/pkg/utils/kube"
	"github.com/argoproj/gitops-engine/pkg/utils/kube/kubetest"
	"github.com/go-logr/logr"
	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/managedfields/managedfieldstest"
	"k8s.io/client-go/rest"
	"k8s.io/kube-openapi/pkg/util/proto"
	"k8s.io/kube-openapi/pkg/validation/spec"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/util/openapi"
)

func init() {
	judges["argo"] = judgeArgo
	judges["argoDiff"] = judgeArgoDiff
}

// argoManager is common.ArgoCDSSAManager of argo-cd.
const argoManager = "argocd-controller"

// An argoRequest has the objects of an Application and its destination namespace. ClusterScoped has the
// kinds without a namespace, as KIND.GROUP.
type argoRequest struct {
	header
	Objects       []map[string]any `json:"objects"`
	Namespace     string           `json:"namespace"`
	ClusterScoped []string         `json:"clusterScoped"`
}

// judgeArgo syncs objects to an empty cluster, and returns what Argo CD applies, in its order.
func judgeArgo(line []byte) (any, error) {
	var request argoRequest
	if err := readRequest(line, &request); err != nil {
		return nil, err
	}
	cluster := &argoCluster{kinds: map[schema.GroupVersion]map[string]bool{}, clusterScoped: map[string]bool{}}
	for _, kind := range request.ClusterScoped {
		cluster.clusterScoped[kind] = true
	}
	var targets []*unstructured.Unstructured
	for _, content := range request.Objects {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(mustJSON(content)); err != nil {
			return nil, err
		}
		targets = append(targets, object)
		gvk := object.GroupVersionKind()
		if cluster.kinds[gvk.GroupVersion()] == nil {
			cluster.kinds[gvk.GroupVersion()] = map[string]bool{}
		}
		cluster.kinds[gvk.GroupVersion()][gvk.Kind] = true
	}
	config := &rest.Config{Host: "http://cluster", Transport: cluster}
	pairs := argosync.Reconcile(targets, map[kube.ResourceKey]*unstructured.Unstructured{}, request.Namespace, cluster)
	operation, cleanup, err := argosync.NewSyncContext("main", pairs, config, config, cluster, request.Namespace, nil,
		argosync.WithLogr(logr.Discard()), argosync.WithServerSideApply(true), argosync.WithServerSideApplyManager(argoManager))
	if err != nil {
		return nil, err
	}
	defer cleanup()
	operation.Sync()
	phase, message, _ := operation.GetState()
	return map[string]any{"phase": phase, "message": message, "applied": cluster.operations.applied}, nil
}

// An argoCluster knows the scope of each kind, and records what is applied.
type argoCluster struct {
	kubetest.MockKubectlCmd
	kinds         map[schema.GroupVersion]map[string]bool
	clusterScoped map[string]bool
	operations    argoOperations
}

// argoOperations takes the place of kubectl's code. A sync applies objects of one kind side by side.
type argoOperations struct {
	kubetest.MockResourceOps
	lock    sync.Mutex
	applied []map[string]any
}

// IsNamespaced says whether a kind has a namespace.
func (c *argoCluster) IsNamespaced(kind schema.GroupKind) (bool, error) {
	return !c.clusterScoped[kind.String()], nil
}

// RoundTrip answers discovery, the only requests that a sync sends itself.
func (c *argoCluster) RoundTrip(request *http.Request) (*http.Response, error) {
	text := strings.TrimPrefix(strings.TrimPrefix(request.URL.Path, "/apis/"), "/api/")
	version, err := schema.ParseGroupVersion(text)
	if err != nil {
		return nil, err
	}
	list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIResourceList"}, GroupVersion: text}
	for kind := range c.kinds[version] {
		namespaced, _ := c.IsNamespaced(schema.GroupKind{Group: version.Group, Kind: kind})
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: strings.ToLower(kind) + "s", Kind: kind, Namespaced: namespaced, Verbs: metav1.Verbs{"get", "create", "patch"},
		})
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(mustJSON(list))), Request: request,
	}, nil
}

// ManageResources returns the record of what is applied.
func (c *argoCluster) ManageResources(*rest.Config, openapi.Resources) (kube.ResourceOperations, func(), error) {
	return &c.operations, func() {}, nil
}

// ApplyResource records an object, except in a dry run.
func (o *argoOperations) ApplyResource(_ context.Context, object *unstructured.Unstructured, dryRun cmdutil.DryRunStrategy,
	_, _, _ bool, _ string,
) (string, error) {
	o.lock.Lock()
	defer o.lock.Unlock()
	if dryRun == cmdutil.DryRunNone {
		o.applied = append(o.applied, object.Object)
	}
	return "", nil
}

// An argoDiffRequest has an object of a registered definition as rendered, and as the API server stores it after
// the webhooks.
type argoDiffRequest struct {
	header
	Object map[string]any `json:"object"`
	Stored map[string]any `json:"stored"`
}

// judgeArgoDiff says by which of Argo CD's comparisons an applied object seems modified: that of an apply by the client,
// of the sync option ServerSideApply, and of the compare option ServerSideDiff.
func judgeArgoDiff(line []byte) (any, error) {
	var request argoDiffRequest
	if err := readRequest(line, &request); err != nil {
		return nil, err
	}
	config, live := &unstructured.Unstructured{}, &unstructured.Unstructured{}
	if err := config.UnmarshalJSON(mustJSON(request.Object)); err != nil {
		return nil, err
	}
	if err := live.UnmarshalJSON(mustJSON(request.Stored)); err != nil {
		return nil, err
	}
	parser, fields, err := applyOnce(config)
	if err != nil {
		return nil, err
	}
	live.SetManagedFields(fields)
	answer := map[string]any{}
	for name, options := range map[string][]diff.Option{
		"clientSideApply": {},
		"serverSideApply": {diff.WithStructuredMergeDiff(true)},
		// A dry run of the applied object returns it as it is stored.
		"serverSideDiff": {diff.WithServerSideDiff(true), diff.WithIgnoreMutationWebhook(true), diff.WithServerSideDryRunner(dryRun{live})},
	} {
		options = append(options, diff.WithGVKParser(parser), diff.WithManager(argoManager), diff.WithLogr(logr.Discard()))
		result, err := diff.Diff(config.DeepCopy(), live.DeepCopy(), options...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		answer[name] = map[string]any{
			"modified": result.Modified, "predicted": json.RawMessage(result.PredictedLive), "live": json.RawMessage(result.NormalizedLive),
		}
	}
	return answer, nil
}

type dryRun struct{ object *unstructured.Unstructured }

// Run returns the object with its managed fields, as the API server does.
func (d dryRun) Run(context.Context, *unstructured.Unstructured, string) (string, error) {
	return string(mustJSON(d.object)), nil
}

// A published has what Argo CD and the API server make of the OpenAPI of a definition.
type published struct {
	parser    *managedfields.GvkParser
	converter managedfields.TypeConverter
}

// knownOpenAPI keeps them, because KServe's definitions take seconds.
var knownOpenAPI = map[schema.GroupVersionKind]published{}

// applyOnce returns the parser of the object's kind, and the managed fields after an apply.
func applyOnce(object *unstructured.Unstructured) (*managedfields.GvkParser, []metav1.ManagedFieldsEntry, error) {
	gvk := object.GroupVersionKind()
	openAPI, known := knownOpenAPI[gvk]
	if !known {
		var err error
		if openAPI, err = publish(gvk); err != nil {
			return nil, nil, err
		}
		knownOpenAPI[gvk] = openAPI
	}
	manager := managedfieldstest.NewTestFieldManager(openAPI.converter, gvk)
	if err := manager.Apply(object.DeepCopy(), argoManager, true); err != nil {
		return nil, nil, err
	}
	return openAPI.parser, manager.ManagedFields(), nil
}

func publish(gvk schema.GroupVersionKind) (published, error) {
	kind, known := knownCRDs[gvk.GroupKind()]
	if !known {
		return published{}, fmt.Errorf("no definition was registered for %s", gvk.GroupKind())
	}
	swagger, err := builder.BuildOpenAPIV2(kind.definition, gvk.Version, builder.Options{V2: true})
	if err != nil {
		return published{}, err
	}
	document, err := openapiv2.ParseDocument(mustJSON(swagger))
	if err != nil {
		return published{}, err
	}
	models, err := proto.NewOpenAPIData(document)
	if err != nil {
		return published{}, err
	}
	parser, err := managedfields.NewGVKParser(models, false)
	if err != nil {
		return published{}, err
	}
	schemas := map[string]*spec.Schema{}
	for name, definition := range swagger.Definitions {
		schemas[name] = &definition
	}
	converter, err := managedfields.NewTypeConverter(schemas, false)
	return published{parser: parser, converter: converter}, err
}
