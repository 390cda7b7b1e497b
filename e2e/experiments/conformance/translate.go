// Added to Knative's package of test helpers: the conformance tests create each Service through createService.
package v1

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	v1 "knative.dev/serving/pkg/apis/serving/v1"
)

// translated returns what the program in EBBTIDE_TRANSLATE prints for the Service, which it reads from stdin: the same
// Service as Ebbtide renders it. The test is skipped if Ebbtide refuses the Service, with its reason. Without the variable,
// the Service stays as it is.
func translated(t testing.TB, service *v1.Service) *v1.Service {
	program := os.Getenv("EBBTIDE_TRANSLATE")
	if program == "" {
		return service
	}
	service.TypeMeta.APIVersion, service.TypeMeta.Kind = "serving.knative.dev/v1", "Service"
	input, err := json.Marshal(service)
	if err != nil {
		t.Fatal("cannot write the Service:", err)
	}
	command := exec.Command(program)
	command.Stdin = bytes.NewReader(input)
	output, err := command.Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		reason := strings.TrimSpace(string(failed.Stderr))
		if failed.ExitCode() == 1 {
			t.Skip("Ebbtide refuses it: " + reason)
		}
		t.Fatal("Ebbtide failed: " + reason)
	} else if err != nil {
		t.Fatal("cannot run Ebbtide:", err)
	}
	// Each test creates its Service in the namespace of its client.
	rendered := &v1.Service{}
	if err := json.Unmarshal(output, rendered); err != nil {
		t.Fatal("cannot read what Ebbtide rendered:", err)
	}
	rendered.Namespace = service.Namespace
	return rendered
}
