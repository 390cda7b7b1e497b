package main

import (
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

type textsRequest struct {
	header
	Texts []string `json:"texts"`
}

type quantityAnswer struct {
	OK        bool   `json:"ok"`
	Error     string `json:"error,omitempty"`
	Canonical string `json:"canonical,omitempty"`
	// Value is rounded up to a whole number, as every consumer of whole
	// resources reads it. Both are decimal strings, since they may exceed
	// what a JSON reader keeps exactly; Milli is absent where it overflows.
	Value string `json:"value,omitempty"`
	Milli string `json:"milli,omitempty"`
}

func judgeQuantities(request []byte) (any, error) {
	return eachText(request, func(text string) any {
		quantity, err := resource.ParseQuantity(text)
		if err != nil {
			return quantityAnswer{Error: err.Error()}
		}
		answer := quantityAnswer{OK: true, Value: decimal(quantity.Value())}
		// ScaledValue saturates silently: only say what it can hold.
		if limit := resource.NewQuantity(1<<63/1000-1, resource.DecimalSI); quantity.Cmp(*limit) <= 0 {
			answer.Milli = decimal(quantity.MilliValue())
		}
		answer.Canonical = quantity.String()
		return answer
	})
}

type durationAnswer struct {
	OK          bool    `json:"ok"`
	Error       string  `json:"error,omitempty"`
	Canonical   string  `json:"canonical,omitempty"`
	Nanoseconds string  `json:"nanoseconds,omitempty"`
	Seconds     float64 `json:"seconds"`
}

func judgeDurations(request []byte) (any, error) {
	return eachText(request, func(text string) any {
		duration, err := time.ParseDuration(text)
		if err != nil {
			return durationAnswer{Error: err.Error()}
		}
		return durationAnswer{
			OK: true, Canonical: duration.String(), Nanoseconds: decimal(int64(duration)), Seconds: duration.Seconds(),
		}
	})
}

func eachText(request []byte, read func(string) any) (any, error) {
	var r textsRequest
	if err := readRequest(request, &r); err != nil {
		return nil, err
	}
	answers := make([]any, 0, len(r.Texts))
	for _, text := range r.Texts {
		answers = append(answers, read(text))
	}
	return map[string]any{"texts": answers}, nil
}
