"""``ebbtide serve``: the API and the page, on loopback or with TLS, on a real cluster or a simulated one."""

from __future__ import annotations

import gc
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.common import show
from ebbtide.cli.options import PROFILE, Options, option, switch
from ebbtide.documents import profiles
from ebbtide.profile.built_in import BUILT_IN_NAME

if TYPE_CHECKING:
    from ebbtide.api.backend import Backend
    from ebbtide.api.gate import Settings
    from ebbtide.cluster.client.kubernetes import Kubernetes
    from ebbtide.profile.models import Profile
    from ebbtide.slo.source import Source

USAGE: Final = 2
PORT: Final = 8042
#: Names of this machine that nobody else has.
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
NAMES: Final = "a name that the server may be called by; again for more"
OPTIONS: Final = (
    *connection.CONNECTION,
    PROFILE,
    connection.COUNTS,
    option("--host", metavar="ADDRESS", default=LOOPBACK[0], help=f"default {LOOPBACK[0]}"),
    option(
        "--port",
        metavar="N",
        type=connection.whole(0, connection.PORTS),
        default=PORT,
        help=f"default {PORT}; 0 takes any that is free",
    ),
    option("--tls-cert", metavar="FILE", help="the server's certificate, with what stands between it and the root"),
    option("--tls-key", metavar="FILE", help="its key"),
    switch("--behind-proxy", help="TLS ends at a proxy before this server: allow another address without it"),
    option("--allow-host", metavar="NAME", action="append", default=[], help=NAMES),
    switch("--read-only", help="write nothing to the cluster"),
    switch("--demo", help="a simulated cluster under synthetic traffic instead of a real one"),
)


def run(options: Options) -> int:
    """Serve until it is told to end."""
    wrong = _contradiction(options)
    if wrong:
        terminal.end(f"ebbtide serve: error: {wrong}", USAGE)
    try:
        import uvicorn  # noqa: F401, PLC0415 - only this command needs it

        if options.demo:
            import numpy as np  # noqa: F401, PLC0415 - as above
    except ImportError as error:
        extra = "demo" if options.demo else "serve"
        terminal.end(f"error: what serves is not installed ({error}): pip install 'ebbtide[{extra}]'", USAGE)
    from ebbtide.cluster.client.protocol import ClusterError  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.slo.source import SourceError  # noqa: PLC0415 - as above

    # The command line does without, for its short life.
    gc.enable()
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.INFO, stream=sys.stderr)
    # Urllib's warnings have the addresses of the API server's queries in them.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        return _demo(options) if options.demo else _real(options)
    except (ClusterError, SourceError) as error:
        terminal.end(f"error: {error}", connection.CLUSTER)


def _contradiction(options: Options) -> str:
    tls = bool(options.tls_cert)
    if tls != bool(options.tls_key):
        return "--tls-cert and --tls-key go together"
    if not tls and not options.behind_proxy and options.host not in LOOPBACK:
        return (
            f"--host {options.host} without TLS would send tokens in the clear: give --tls-cert and --tls-key, or say "
            "--behind-proxy where TLS ends before this server"
        )
    if options.demo and (options.kubeconfig or options.context):
        return "--demo has a cluster of its own: leave --kubeconfig and --context out"
    if options.demo and options.profile != BUILT_IN_NAME:
        return "--demo has a profile of its own: leave --profile out"
    # What the environment says is for real clusters, and no contradiction.
    if options.demo and options.prometheus not in {None, os.environ.get(connection.PROMETHEUS)}:
        return "--demo counts its requests itself: leave --prometheus out"
    if options.demo and options.host not in LOOPBACK:
        return "--demo lets everybody do everything: it is for this machine alone"
    return ""


def _demo(options: Options) -> int:
    from ebbtide.sandbox import backend as sandbox  # noqa: PLC0415 - as in run
    from ebbtide.sandbox import services  # noqa: PLC0415 - as above

    terminal.tell("making the past of the simulated cluster; this takes a few seconds")
    world = services.demo_world()
    backend = sandbox.of_simulated(
        world.cluster,
        services.profile(),
        services.PROFILE,
        connection.clock(),
        source=world.source,
        read_only=options.read_only,
        demo=True,
    )
    world.start()
    try:
        return _serve(backend, options)
    finally:
        world.stop()


def _real(options: Options) -> int:
    from ebbtide.api import make  # noqa: PLC0415 - as in run

    profile, data, problems = profiles.read_with_data(options.profile)
    show(problems)
    if profile is None:
        return 1
    own = None
    if not options.kubeconfig and make.in_cluster():
        cluster = make.own_cluster()
    else:
        cluster, user = make.of_kubeconfig(options.kubeconfig, options.context)
        if options.host in LOOPBACK and not options.behind_proxy:
            own = user
    backend = make.of_cluster(
        cluster,
        profile,
        data,
        connection.clock(),
        source=_source(options, cluster, profile),
        anonymous_caller=own,
        read_only=options.read_only,
    )
    return _serve(backend, options)


def _source(options: Options, cluster: Kubernetes, profile: Profile) -> Source | None:
    """Return who counts: the address that is given or, in a pod, the profile's; from outside, through the API server."""
    from ebbtide.api import make  # noqa: PLC0415 - as in run

    if options.prometheus is None and make.in_cluster():
        options.prometheus = profile.spec.metrics.prometheus
    return connection.counts(cluster, options, profile)


def _serve(backend: Backend, options: Options) -> int:
    import uvicorn  # noqa: PLC0415 - as in run

    from ebbtide.api.app import configured, make_app  # noqa: PLC0415 - as in run
    from ebbtide.web.routes import make_router  # noqa: PLC0415 - as in run

    tls: dict[str, Any] = {"ssl_certfile": options.tls_cert, "ssl_keyfile": options.tls_key} if options.tls_cert else {}
    pages = make_router(backend, secure=bool(tls) or options.behind_proxy)
    config = configured(make_app(backend, settings(options), [pages]), options.host, options.port, **tls)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    try:
        sockets = [config.bind_socket()]
    except SystemExit:
        # It has said why.
        return USAGE
    except OSError as error:
        terminal.end(f"error: the certificate or its key cannot be read: {error.strerror or error}", USAGE)
    host, port = options.host, sockets[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    terminal.tell(f"ebbtide serves on {'https' if tls else 'http'}://{shown}:{port}/ (Ctrl-C ends it)")
    server = uvicorn.Server(config)
    server.run(sockets)
    return 0 if server.started else connection.CLUSTER


def settings(options: Options) -> Settings:
    """Return the limits, and the names that the server may be called by."""
    from ebbtide.api.gate import LOCAL, Settings  # noqa: PLC0415 - as in run

    names = {name.lower() for name in options.allow_host}
    if options.host in LOOPBACK and not options.behind_proxy:
        # A name of another site that leads to this machine must not reach it.
        names |= LOCAL
    return Settings(hosts=frozenset(names), tls=bool(options.tls_cert))
