module ebbtide.dev/e2e/servers/reservation

go 1.26
