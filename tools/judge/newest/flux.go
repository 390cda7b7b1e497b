package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	generator "github.com/fluxcd/pkg/kustomize"
	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/normalize"
	ssautil "github.com/fluxcd/pkg/ssa/utils"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

func init() {
	judges["flux"] = judgeFlux
	// Otherwise it waits 30 seconds for a logger, and prints a stack.
	log.SetLogger(logr.Discard())
}

// A fluxRequest has manifests of a source and the Kustomization that applies them. ClusterScoped has the kinds without
// a namespace, as KIND.GROUP.
type fluxRequest struct {
	header
	Manifests     string         `json:"manifests"`
	Kustomization map[string]any `json:"kustomization"`
	ClusterScoped []string       `json:"clusterScoped"`
}

// judgeFlux takes the steps of kustomize-controller's reconcile on an empty cluster: generate, build, read, normalize,
// apply. It returns the requests that the API server gets, in their order.
func judgeFlux(line []byte) (any, error) {
	var request fluxRequest
	if err := readRequest(line, &request); err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "judge-flux-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	if err := os.WriteFile(filepath.Join(folder, "services.yaml"), []byte(request.Manifests), 0o600); err != nil {
		return nil, err
	}
	kustomization := unstructured.Unstructured{Object: request.Kustomization}
	if _, err := generator.NewGenerator(folder, kustomization).WriteFile(folder); err != nil {
		return nil, err
	}
	built, err := generator.SecureBuild(folder, folder, false)
	if err != nil {
		return nil, err
	}
	text, err := built.AsYaml()
	if err != nil {
		return nil, err
	}
	objects, err := ssautil.ReadObjects(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if err := normalize.UnstructuredList(objects); err != nil {
		return nil, err
	}
	server := &fluxServer{objects: map[string]json.RawMessage{}}
	var versions []schema.GroupVersion
	for _, object := range objects {
		versions = append(versions, object.GroupVersionKind().GroupVersion())
	}
	mapper := meta.NewDefaultRESTMapper(versions)
	for _, object := range objects {
		gvk := object.GroupVersionKind()
		scope := meta.RESTScopeNamespace
		for _, kind := range request.ClusterScoped {
			if kind == gvk.GroupKind().String() {
				scope = meta.RESTScopeRoot
			}
		}
		mapper.Add(gvk, scope)
	}
	reader, err := client.New(&rest.Config{Host: "http://cluster", Transport: server}, client.Options{Mapper: mapper})
	if err != nil {
		return nil, err
	}
	manager := ssa.NewResourceManager(reader, polling.NewStatusPoller(reader, mapper, polling.Options{}),
		ssa.Owner{Field: "kustomize-controller", Group: "kustomize.toolkit.fluxcd.io"})
	manager.SetOwnerLabels(objects, kustomization.GetName(), kustomization.GetNamespace())
	options := ssa.DefaultApplyOptions()
	options.WaitInterval, options.WaitTimeout = 10*time.Millisecond, 5*time.Second
	_, err = manager.ApplyAllStaged(context.Background(), objects, options)
	answer := map[string]any{"applied": server.applied}
	if err != nil {
		answer["refused"] = err.Error()
	}
	return answer, nil
}

type fluxApply struct {
	Path   string          `json:"path"`
	Object json.RawMessage `json:"object"`
}

// A fluxServer stores what is applied, without defaults and admission.
type fluxServer struct {
	lock    sync.Mutex
	objects map[string]json.RawMessage
	applied []fluxApply
}

// RoundTrip answers the requests of an apply and of the poll for definitions that must be ready.
func (s *fluxServer) RoundTrip(request *http.Request) (*http.Response, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	path, code := request.URL.Path, http.StatusOK
	var body []byte
	switch stored, found := s.objects[path]; {
	case request.Method == http.MethodPatch:
		var err error
		if body, err = io.ReadAll(request.Body); err != nil {
			return nil, err
		}
		if len(request.URL.Query()["dryRun"]) == 0 {
			s.objects[path] = body
			s.applied = append(s.applied, fluxApply{Path: path, Object: body})
		}
	case found:
		body = stored
	default:
		body = s.list(path + "/")
		if body == nil {
			code, body = http.StatusNotFound, []byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
		}
	}
	return &http.Response{
		StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(body)), Request: request,
	}, nil
}

// list returns the objects of a collection, or nil without any.
func (s *fluxServer) list(prefix string) []byte {
	items := []json.RawMessage{}
	var kind schema.GroupVersionKind
	for path, object := range s.objects {
		if name, inside := strings.CutPrefix(path, prefix); inside && !strings.Contains(name, "/") {
			items = append(items, object)
			var item unstructured.Unstructured
			_ = item.UnmarshalJSON(object)
			kind = item.GroupVersionKind()
		}
	}
	if len(items) == 0 {
		return nil
	}
	return mustJSON(map[string]any{"apiVersion": kind.GroupVersion().String(), "kind": kind.Kind + "List", "metadata": map[string]any{}, "items": items})
}
