package main

import (
	"context"
	"fmt"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func init() {
	judges["health"] = judgeHealth
}

// A healthRequest has the health checks of a Kustomization, and Argo CD's check in Lua. Without one of
// the latter's, Argo CD is not asked.
type healthRequest struct {
	header
	Object           map[string]any                `json:"object"`
	HealthCheckExprs []kustomize.CustomHealthCheck `json:"healthCheckExprs"`
	Lua              string                        `json:"lua"`
}

type health struct {
	// Flux is the status that kustomize-controller computes. Error is why it is Unknown.
	Flux  string `json:"flux"`
	Error string `json:"error,omitempty"`
	// Argo is the health and the message that Argo CD's check returns.
	Argo    string `json:"argo,omitempty"`
	Message string `json:"message,omitempty"`
}

func judgeHealth(line []byte) (any, error) {
	var request healthRequest
	if err := readRequest(line, &request); err != nil {
		return nil, err
	}
	// Numbers become int64, as the API server's client reads them.
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(mustJSON(request.Object)); err != nil {
		return nil, err
	}
	var answer health
	if err := answer.askFlux(object, request.HealthCheckExprs); err != nil {
		return nil, err
	}
	if request.Lua == "" {
		return answer, nil
	}
	return answer, answer.askArgo(object, request.Lua)
}

func (h *health) askFlux(object *unstructured.Unstructured, checks []kustomize.CustomHealthCheck) error {
	newReader, err := cel.NewStatusReader(checks)
	if err != nil {
		return err
	}
	reader := newReader(nil)
	if !reader.Supports(object.GroupVersionKind().GroupKind()) {
		result, err := status.Compute(object)
		if err != nil {
			return err
		}
		h.Flux = result.Status.String()
		return nil
	}
	result, err := reader.ReadStatusForObject(context.Background(), nil, object)
	if err != nil {
		return err
	}
	h.Flux = result.Status.String()
	if result.Error != nil {
		h.Error = result.Error.Error()
	}
	return nil
}

// askArgo opens the libraries that Argo CD opens for checks of users (argo-cd util/lua/lua.go, runLua),
// except its own variant of os.
func (h *health) askArgo(object *unstructured.Unstructured, check string) error {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	libraries := []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}}
	for _, library := range libraries {
		state.Push(state.NewFunction(library.open))
		state.Push(lua.LString(library.name))
		state.Call(1, 0)
	}
	state.SetGlobal("obj", luaValue(state, object.Object))
	if err := state.DoString(check); err != nil {
		return err
	}
	result, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return fmt.Errorf("the check returns %s, not a table", state.Get(-1).Type())
	}
	h.Argo, h.Message = result.RawGetString("status").String(), result.RawGetString("message").String()
	return nil
}

func luaValue(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case string:
		return lua.LString(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case []any:
		table := state.NewTable()
		for _, item := range value {
			table.Append(luaValue(state, item))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, item := range value {
			table.RawSetString(key, luaValue(state, item))
		}
		return table
	}
	return lua.LNil
}
