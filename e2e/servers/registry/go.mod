module ebbtide.dev/e2e/servers/registry

go 1.26

require github.com/google/go-containerregistry v0.22.1
