module ebbtide.dev/e2e/servers/gpu-exporter

go 1.26
