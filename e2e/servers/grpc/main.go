// Command grpc is a gRPC server without TLS: the standard health service, and an echo that says who answered. It is its
// own client too, for a test on the other side of an ingress:
//
//	grpc                                       serves on PORT (8080; 0 takes a free one and says which), on HOST
//	grpc call ADDRESS [AUTHORITY [TEXT]]       asks both services, under the host name AUTHORITY
//
// The echo is ebbtide.e2e.Echo/Say, from a google.protobuf.StringValue to one: it needs no generated interface. Its
// text may be a duration such as 200ms, which is how long the answer takes.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func main() {
	log.SetFlags(0)
	run := serve
	if len(os.Args) > 1 && os.Args[1] == "call" {
		run = call
	}
	if err := run(os.Args[1:]); err != nil {
		log.Fatalf("grpc: %v", err)
	}
}

func serve([]string) error {
	listener, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("HOST"), or(os.Getenv("PORT"), "8080")))
	if err != nil {
		return err
	}
	server, state := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, state)
	server.RegisterService(&echo, nil)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	fmt.Printf("listening on %s\n", listener.Addr())

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-failed:
		return err
	case <-stop:
		state.Shutdown()
		server.GracefulStop()
		return nil
	}
}

// echo describes an interface with one method, as protoc would generate it.
var echo = grpc.ServiceDesc{
	ServiceName: "ebbtide.e2e.Echo",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Say",
		Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			asked := new(wrapperspb.StringValue)
			if err := decode(asked); err != nil {
				return nil, err
			}
			if wait, err := time.ParseDuration(asked.GetValue()); err == nil {
				select {
				case <-time.After(wait):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			pod := or(os.Getenv("POD_NAME"), os.Getenv("HOSTNAME"))
			return wrapperspb.String(fmt.Sprintf("%s %s %s", asked.GetValue(), pod, os.Getenv("K_REVISION"))), nil
		},
	}},
}

func call(arguments []string) error {
	if len(arguments) < 2 {
		return fmt.Errorf("call ADDRESS [AUTHORITY [TEXT]]")
	}
	arguments = append(arguments, "", "")
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if authority := arguments[2]; authority != "" {
		options = append(options, grpc.WithAuthority(authority))
	}
	// passthrough: use the address as it is, and do not resolve the authority.
	client, err := grpc.NewClient("passthrough:///"+arguments[1], options...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	checked, err := grpc_health_v1.NewHealthClient(client).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	said := new(wrapperspb.StringValue)
	if err := client.Invoke(ctx, "/ebbtide.e2e.Echo/Say", wrapperspb.String(or(arguments[3], "hello")), said); err != nil {
		return err
	}
	fmt.Printf("%s\n%s\n", checked.GetStatus(), said.GetValue())
	return nil
}

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
