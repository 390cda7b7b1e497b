package main

import "testing"

func TestYAML(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"y and n are booleans": {"a: y\nb: 'y'\nn: 1", `{"id":0,"ok":true,"docs":[{"a":true,"b":"y","false":1}]}`},
		"digits are kept":      {"big: 12345678901234567890", `{"id":0,"ok":true,"docs":[{"big":12345678901234567890}]}`},
		"octal":                {"mode: 0644", `{"id":0,"ok":true,"docs":[{"mode":420}]}`},
		"base 60 is a string":  {"t: 1:30", `{"id":0,"ok":true,"docs":[{"t":"1:30"}]}`},
		"empty documents":      {"---\n# nothing\n---\na: 1\n---\n", `{"id":0,"ok":true,"docs":[{"a":1}]}`},
		"duplicate key":        {"a: 1\na: 2", `{"id":0,"ok":false,"error":"yaml: unmarshal errors:\n  line 2: key \"a\" already set in map","docs":[]}`},
	} {
		t.Run(name, func(t *testing.T) {
			line := mustJSON(map[string]any{"id": 0, "kind": "yaml", "text": test.text})
			if got := string(answerLine(line)); got != test.want+"\n" {
				t.Errorf("got  %s want %s", got, test.want)
			}
		})
	}
}

func TestQuantity(t *testing.T) {
	answer := ask(t, "quantity", map[string]any{"texts": []string{"1.5Gi", "0.1", "1e19", "1 Gi"}})
	expect(t, answer, "1536Mi", "texts", 0, "canonical")
	expect(t, answer, "100m", "texts", 1, "canonical")
	expect(t, answer, "1", "texts", 1, "value")
	expect(t, answer, "100", "texts", 1, "milli")
	expect(t, answer, nil, "texts", 2, "milli")
	expect(t, answer, false, "texts", 3, "ok")
}

func TestDuration(t *testing.T) {
	answer := ask(t, "duration", map[string]any{"texts": []string{"1m30s", "90"}})
	expect(t, answer, 90.0, "texts", 0, "seconds")
	expect(t, answer, false, "texts", 1, "ok")
}
