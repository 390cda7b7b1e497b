"""``ebbtide call NAME``: send one request to a workload and show its status, latency and cold start."""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import calls, connection, terminal
from ebbtide.cli.base.options import Options, make_option, make_parser
from ebbtide.core.base.prose import count_noun
from ebbtide.core.documents.files import read_file
from ebbtide.core.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.client.endpoint import Exchange
    from ebbtide.cluster.read.status import Status

OPTIONS: Final = (
    *connection.WORKLOAD,
    make_option("--path", metavar="PATH", default="/", help="Path of the request (default: /)"),
    make_option("-d", "--data", metavar="TEXT", help="Body of a POST request; @FILE reads it from a file"),
    make_option(
        "--chat",
        metavar="TEXT",
        help="Send a message to the OpenAI route /v1/chat/completions, and print the answer token by token",
    ),
    make_option("--model", metavar="M", help="Model of --chat (default: the first one of /v1/models)"),
    make_option(
        "--gateway",
        metavar="URL",
        help="Address of the ingress gateway, as in http://127.0.0.1:8080 (default: found as by describe, if the workload's "
        "host name does not resolve here)",
    ),
    make_option(
        "--timeout",
        metavar="TIME",
        type=make_parser(parse_duration, bare=True),
        default="5m",
        help="Time to wait for the response (default: 5m)",
    ),
)


def run(options: Options) -> int:
    if options.chat is not None and options.data is not None:
        terminal.exit_with_usage_error("--chat and --data are mutually exclusive: use one of them", "call")
    return connection.run_on_cluster(options, lambda cluster: _call(cluster, options))


def _call(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.client.endpoint import FAILED_STATUS, CallError, Exchange
    from ebbtide.cluster.read.gateways import make_endpoint
    from ebbtide.cluster.read.status import compute_status

    live = connection.find_live_workload(cluster, options)
    status = compute_status(live)
    if not status.url:
        terminal.write_stderr(f"error: {options.name} has no URL: {status.why or status.phase}")
        return connection.CLUSTER
    with _open_gateway(cluster, status, live.top, options.gateway) as gateway:
        exchange = Exchange(make_endpoint(status, gateway, options.timeout))
        try:
            if options.chat is not None:
                messages = [{"role": "user", "content": options.chat}]
                code = _print_response(exchange, exchange.chat(messages, options.model or ""), status, "first token")
            else:
                data = _read_data(options.data)
                pieces = exchange.send("GET" if data is None else "POST", options.path, data)
                code = _print_response(exchange, pieces, status, "first byte")
        except (OSError, CallError) as error:
            terminal.write_stderr(f"error: {_explain(error, status, gateway)}")
            return connection.CLUSTER
    return 0 if code < FAILED_STATUS else connection.CLUSTER


@contextmanager
def _open_gateway(cluster: connection.Cluster, status: Status, top: object, address: str | None) -> Iterator[str]:
    """Give the address of the gateway, empty if the URL itself is called; the same way as in the command of ``describe``.

    If this machine reaches no address of the gateway, a port is forwarded to one of its pods.
    """
    from ebbtide.cluster.client import streams  # the client is slow to import
    from ebbtide.cluster.client.protocol import ClusterError
    from ebbtide.cluster.read.gateways import find_gateway_pod

    if address:
        yield address
        return
    if connection.simulated is not None:
        yield connection.simulated.gateway
        return
    access = calls.find_access(cluster, status, top)
    if access.address is not None:
        host, port = access.address
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
        return
    target = None
    with suppress(ClusterError):
        # Without the permission, the failed call says what to forward.
        target = None if access.service is None else find_gateway_pod(cluster, *access.service)
    if access.service is None or target is None:
        yield ""
        return
    namespace, (pod, port) = access.service[0], target
    with streams.open_forward(cluster, namespace, pod, port) as local:
        yield f"http://127.0.0.1:{local}"


def _explain(error: Exception, status: Status, gateway: str) -> str:
    from ebbtide.cluster.client.endpoint import NoModelError
    from ebbtide.cluster.read.gateways import LOCAL_PORT, forward_command

    reason = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    text = f"no response from {gateway or status.url}: {reason[:1].lower()}{reason[1:]}"
    if isinstance(error, NoModelError):
        return f"{text}; use --path and --data"
    if gateway:
        return text
    if ".svc." in status.url:
        return (
            f"{text}; the URL is reachable only inside the cluster: run {forward_command(status)}, with the port of "
            f"the server, and set --gateway http://127.0.0.1:{LOCAL_PORT}"
        )
    return (
        f"{text}; if the gateway has no address that this machine reaches, forward a port to it, as in kubectl port-forward "
        "-n kourier-system service/kourier 8080:80, and set --gateway http://127.0.0.1:8080"
    )


def _print_response(exchange: Exchange, pieces: Iterator[str], status: Status, first: str) -> int:
    """Print a response as it arrives, then its measurements, and return its status."""
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()
    _report(exchange, status, first)
    return exchange.status


def _read_data(text: str | None) -> bytes | None:
    """Return the body: the text, or the bytes of the file after ``@``."""
    if text is None:
        return None
    return read_file(Path(text[1:])) if text.startswith("@") else text.encode()


def _report(exchange: Exchange, status: Status, first: str) -> None:
    """Print the status, the latency, and whether the request started the first replica."""
    reply = f"HTTP {exchange.status} {exchange.reason}".rstrip()
    latency = f"{exchange.total:.2f} s" + (f" ({first} after {exchange.first:.2f} s)" if exchange.first else "")
    start = "no" if status.replicas.ready else "yes, no replica was ready"
    terminal.write_stderr(f"{reply} in {latency}; cold start: {start}")
    if exchange.rate is not None:
        tokens = count_noun(exchange.tokens, "token")
        terminal.write_stderr(f"{exchange.model}: {tokens}, {exchange.rate:.1f} tokens/s")
