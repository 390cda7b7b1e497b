module ebbtide.dev/e2e/servers/load

go 1.26
