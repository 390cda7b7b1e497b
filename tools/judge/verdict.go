package main

import (
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/apis"
	kjson "sigs.k8s.io/json"
)

// A problem is one thing upstream objects to, whichever of its error types it
// used to say so.
type problem struct {
	Message string   `json:"message"`
	Paths   []string `json:"paths,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	Level   string   `json:"level"`
}

// A verdict is what every judge of one object answers.
type verdict struct {
	OK       bool            `json:"ok"`
	Errors   []problem       `json:"errors"`
	Warnings []problem       `json:"warnings,omitempty"`
	Object   json.RawMessage `json:"object,omitempty"`
}

// refuse marks the verdict as refused because of errs; no errs, no change.
func (v *verdict) refuse(errs ...problem) {
	v.Errors = append(v.Errors, errs...)
	v.OK = len(v.Errors) == 0
}

// newVerdict starts from "accepted": the empty list, not null, is what says so.
func newVerdict() verdict {
	return verdict{OK: true, Errors: []problem{}}
}

// problemsOf spreads the errors of the API server and of Go over problems.
func problemsOf(err error) []problem {
	if err == nil {
		return nil
	}
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		if details := status.Status().Details; details != nil && len(details.Causes) > 0 {
			var found []problem
			for _, cause := range details.Causes {
				found = append(found, problem{Message: cause.Message, Paths: paths(cause.Field), Reason: string(cause.Type), Level: "error"})
			}
			return found
		}
		return []problem{{Message: err.Error(), Reason: string(status.Status().Reason), Level: "error"}}
	}
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		var found []problem
		for _, one := range strict.Errors() {
			found = append(found, problem{Message: one.Error(), Reason: "Strict", Level: "error"})
		}
		return found
	}
	return []problem{{Message: err.Error(), Level: "error"}}
}

// knativeProblems lists a FieldError's parts of one level.
func knativeProblems(err *apis.FieldError, level apis.DiagnosticLevel) []problem {
	var found []problem
	for _, one := range err.Filter(level).WrappedErrors() {
		message := one.Message
		if one.Details != "" {
			message += "\n" + one.Details
		}
		name := "error"
		if level == apis.WarningLevel {
			name = "warning"
		}
		found = append(found, problem{Message: message, Paths: one.Paths, Level: name})
	}
	return found
}

func paths(field string) []string {
	if field == "" {
		return nil
	}
	return []string{field}
}

// decodeStrict reads JSON as the API server does when fieldValidation is
// Strict: names are case-sensitive, unknown and duplicate fields are refused.
func decodeStrict(data []byte, into any) []problem {
	strictErrs, err := kjson.UnmarshalStrict(data, into)
	if err != nil {
		return []problem{{Message: err.Error(), Reason: "Decode", Level: "error"}}
	}
	var found []problem
	for _, one := range strictErrs {
		found = append(found, problem{Message: one.Error(), Reason: "Strict", Level: "error"})
	}
	return found
}

// mustJSON is for values that upstream just made: they always encode.
func mustJSON(value any) json.RawMessage {
	data, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", value, err))
	}
	return data
}
