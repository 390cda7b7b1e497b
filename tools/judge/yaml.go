package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

type yamlRequest struct {
	header
	Text  *string  `json:"text"`
	Texts []string `json:"texts"`
}

// A yamlAnswer carries each document as the JSON that kubectl would send.
// The bytes stay as sigs.k8s.io/yaml made them: a detour through Go values
// would turn 1.0 into 1 and lose digits.
type yamlAnswer struct {
	OK    bool              `json:"ok"`
	Error string            `json:"error,omitempty"`
	Docs  []json.RawMessage `json:"docs"`
}

func judgeYAML(request []byte) (any, error) {
	var r yamlRequest
	if err := readRequest(request, &r); err != nil {
		return nil, err
	}
	if r.Text != nil {
		return readYAML(*r.Text), nil
	}
	answers := make([]yamlAnswer, 0, len(r.Texts))
	for _, text := range r.Texts {
		answers = append(answers, readYAML(text))
	}
	return map[string]any{"texts": answers}, nil
}

// readYAML splits the stream as kubectl does, and reads each document strictly:
// kubectl itself lets the last of two equal keys win, which is never meant.
func readYAML(text string) yamlAnswer {
	answer := yamlAnswer{OK: true, Docs: []json.RawMessage{}}
	stream := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		document, err := stream.Read()
		if errors.Is(err, io.EOF) {
			return answer
		}
		var converted []byte
		if err == nil {
			converted, err = yaml.YAMLToJSONStrict(document)
		}
		if err != nil {
			answer.OK, answer.Error = false, err.Error()
			return answer
		}
		// A document of comments alone is null, which kubectl skips.
		if converted = bytes.TrimSpace(converted); !bytes.Equal(converted, []byte("null")) {
			answer.Docs = append(answer.Docs, converted)
		}
	}
}
