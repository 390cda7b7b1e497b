package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestMain(m *testing.M) {
	prepareUpstream()
	os.Exit(m.Run())
}

// ask goes through the protocol, so that every test also tests it.
func ask(t *testing.T, kind string, members map[string]any) map[string]any {
	t.Helper()
	request := map[string]any{"id": t.Name(), "kind": kind}
	for key, value := range members {
		request[key] = value
	}
	line, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := serve(bytes.NewReader(line), &out); err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if answer["id"] != t.Name() {
		t.Errorf("id = %v", answer["id"])
	}
	return answer
}

// at walks into an answer: map keys as strings, indices as ints.
func at(t *testing.T, value any, path ...any) any {
	t.Helper()
	for i, step := range path {
		switch step := step.(type) {
		case string:
			object, ok := value.(map[string]any)
			if !ok {
				t.Fatalf("no object at %v: %v", path[:i], value)
			}
			value = object[step]
		case int:
			list, ok := value.([]any)
			if !ok || step >= len(list) {
				t.Fatalf("no element %d at %v: %v", step, path[:i], value)
			}
			value = list[step]
		}
	}
	return value
}

func expect(t *testing.T, answer any, want any, path ...any) {
	t.Helper()
	if got := at(t, answer, path...); got != want {
		t.Errorf("%v = %v, want %v\n%s", path, got, want, brief(answer))
	}
}

// expectMessage looks for a text among the problems at path.
func expectMessage(t *testing.T, answer any, text string, path ...any) {
	t.Helper()
	list, _ := at(t, answer, path...).([]any)
	for _, one := range list {
		if strings.Contains(at(t, one, "message").(string), text) {
			return
		}
	}
	t.Errorf("no message contains %q at %v\n%s", text, path, brief(answer))
}

func brief(answer any) string {
	text, _ := json.Marshal(answer)
	if len(text) > 2000 {
		text = append(text[:2000], "…"...)
	}
	return string(text)
}

// parse reads one YAML document, so that tests can say objects as users do.
func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var object map[string]any
	if err := yaml.UnmarshalStrict([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	return object
}

// moduleFiles finds manifests that upstream ships inside its module.
func moduleFiles(t *testing.T, module string, patterns ...string) []map[string]any {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	var objects []map[string]any
	for _, pattern := range patterns {
		names, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), pattern))
		if len(names) == 0 {
			t.Fatalf("%s has no %s", module, pattern)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			objects = append(objects, parse(t, string(text)))
		}
	}
	return objects
}

func TestProtocol(t *testing.T) {
	for name, test := range map[string]struct{ line, want string }{
		"not JSON":         {`{"id": 1, "kind"`, `{"id":null,"error":`},
		"unknown kind":     {`{"id": {"a": [1]}, "kind": "x"}`, `{"id":{"a": [1]},"error":"unknown kind \"x\""}`},
		"unknown member":   {`{"id": 1, "kind": "yaml", "txt": ""}`, `unknown field`},
		"no id":            {`{"kind": "yaml", "text": ""}`, `{"id":null,"ok":true,"docs":[]}`},
		"nothing to judge": {`{"id": 1, "kind": "knative"}`, `"ok":false`},
		"wrong shape":      {`{"id": 1, "kind": "kserve", "object": [1]}`, `"ok":false`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(answerLine([]byte(test.line))); !strings.Contains(got, test.want) || strings.Count(got, "\n") != 1 {
				t.Errorf("got %q, want %q in it", got, test.want)
			}
		})
	}
}

func TestPanicIsAnswered(t *testing.T) {
	judges["panic"] = func([]byte) (any, error) { panic("upstream bug") }
	defer delete(judges, "panic")
	var out bytes.Buffer
	input := "{\"id\":1,\"kind\":\"panic\"}\n\n{\"id\":2,\"kind\":\"yaml\",\"text\":\"a: y\"}\n"
	if err := serve(strings.NewReader(input), &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "upstream bug") || !strings.Contains(lines[1], `{"a":true}`) {
		t.Errorf("got %q", lines)
	}
}
