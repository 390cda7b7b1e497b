package main

import (
	"errors"
	"runtime"
	"runtime/debug"
	"strconv"
)

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// judgeVersions lists what is really linked, replacements applied: a verdict
// is only worth as much as the version that gave it.
func judgeVersions([]byte) (any, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil, errors.New("built without module information")
	}
	modules := map[string]string{}
	for _, module := range info.Deps {
		version := module.Version
		if module.Replace != nil {
			version = module.Replace.Version
		}
		modules[module.Path] = version
	}
	return map[string]any{"go": runtime.Version(), "modules": modules}, nil
}
