"""``ebbtide serve`` and ``ebbtide open``: serve the REST API and the web UI, for a real or a simulated cluster.

``open`` also opens the page in the browser.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import secrets
import socket
import stat
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.common import choose_profile, print_problems
from ebbtide.cli.base.options import LIVE_PROFILE, Options, make_option, make_port_option, make_switch
from ebbtide.core.base import plugins
from ebbtide.core.documents import profiles
from ebbtide.core.profile.built_in import BUILT_IN, BUILT_IN_NAME

if TYPE_CHECKING:
    from ebbtide.cli.operate.browser import FirstPage
    from ebbtide.cluster.client.kubernetes import KubernetesCluster
    from ebbtide.cluster.slo.source import MetricsSource
    from ebbtide.core.profile.models import Profile
    from ebbtide.server.api.access import Caller
    from ebbtide.server.api.backend import Backend
    from ebbtide.server.api.gate import ServerSettings

PORT: Final = 8042
#: Host names that always refer to the local machine.
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
NO_LIBRARIES: Final = (
    "note: this package was built from a Git checkout without the page's libraries, so pages have no scripts and no interactive "
    "charts: install the wheel that `make package` builds, or run `make assets` in the checkout"
)
NAMES: Final = "Host name that clients may use for this server; repeatable"
OPTIONS: Final = (
    *connection.CONNECTION,
    LIVE_PROFILE,
    connection.COUNTS,
    connection.COST,
    make_option(
        "--host", metavar="ADDRESS", default=LOOPBACK[0], help=f"Address to listen on (default: {LOOPBACK[0]})"
    ),
    make_port_option(PORT, "Port to listen on"),
    make_option(
        "--unix-socket",
        metavar="PATH",
        help="Listen on a Unix socket instead of a port; only your account can open it, and no sign-in is necessary",
    ),
    make_option(
        "--tls-cert", metavar="FILE", help="TLS certificate of the server, followed by its intermediate certificates"
    ),
    make_option("--tls-key", metavar="FILE", help="Private key of the TLS certificate"),
    make_switch("--behind-proxy", help="Allow plain HTTP on a non-loopback address, because a proxy terminates TLS"),
    make_option("--allow-host", metavar="NAME", action="append", default=[], help=NAMES),
    make_option(
        "--session-key-file",
        metavar="FILE",
        help="Keys of browser sessions, one per line, 32 bytes each in URL-safe base64; the first encrypts. "
        "With the same file, several replicas serve the same sessions. Default: a random key",
    ),
    make_option(
        "--gateway",
        metavar="URL",
        default="",
        help="Address of the ingress gateway for requests of the playground, if the workloads' host names do not resolve "
        "on this server, as in http://kourier.kourier-system",
    ),
    make_switch("--read-only", help="Reject requests that would change the cluster"),
    make_switch("--demo", help="Use a simulated cluster with synthetic traffic"),
)


def run(options: Options) -> int:
    """Serve until a signal ends the process."""
    contradiction = _find_contradiction(options)
    if contradiction:
        terminal.exit_with_usage_error(contradiction, "serve")
    plugins.require_module("ebbtide.server", options.command)
    if not options.unix_socket:
        _require_free_port(options.host, options.port)
    try:
        import uvicorn  # noqa: F401 - checks that it is installed

        if options.demo:
            import numpy as np  # noqa: F401 - as above
    except ImportError as error:
        extra = "demo" if options.demo else "serve"
        terminal.exit_with_message(
            f"error: the server's packages are not installed ({error}); install the wheel with the extra {extra}"
        )
    from ebbtide.cluster.client.protocol import ClusterError
    from ebbtide.cluster.slo.source import SourceError
    from ebbtide.server.web.parts.assets import has_libraries

    if not has_libraries():
        sys.stderr.write(f"{NO_LIBRARIES}\n")
    # The entry point disables garbage collection for short-lived commands; a server needs it.
    gc.enable()
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.INFO, stream=sys.stderr)
    # urllib3's warnings contain the URLs of queries to the API server.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        if options.demo:
            return int(plugins.require_part(plugins.DEMO, "demo", "--demo").load(ModuleType).serve_demo(options))
        return _serve_cluster(options)
    except (ClusterError, SourceError) as error:
        terminal.exit_with_message(f"error: {error}", connection.CLUSTER)


def _require_free_port(host: str, port: int) -> None:
    """Exit with a message if another process listens on the port, before the cluster is read or simulated."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # The server sets it too, so connections of an earlier server that are still closing do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                terminal.exit_with_message(
                    f"error: port {port} on {host} is in use by another process: set --port to a free one, or to 0"
                )
            # The server reports other errors.


def _find_contradiction(options: Options) -> str:
    tls = bool(options.tls_cert)
    if tls != bool(options.tls_key):
        return "--tls-cert and --tls-key must be set together"
    if not tls and not options.behind_proxy and options.host not in LOOPBACK:
        return (
            f"--host {options.host} without TLS would send tokens unencrypted: set --tls-cert and --tls-key, or set "
            "--behind-proxy if a proxy terminates TLS"
        )
    if options.command == "open" and (options.unix_socket or options.host not in LOOPBACK or options.behind_proxy):
        return "open needs a loopback address: use ebbtide serve"
    if options.unix_socket and (tls or options.behind_proxy or options.host != LOOPBACK[0] or options.port != PORT):
        return "--unix-socket replaces the port: remove --host, --port, --tls-cert, --tls-key and --behind-proxy"
    if options.demo and (options.kubeconfig or options.context):
        return "--demo uses a simulated cluster: remove --kubeconfig and --context"
    if options.demo and options.profile:
        return "--demo uses a built-in profile: remove --profile"
    # EBBTIDE_PROMETHEUS applies to real clusters, so it does not conflict with --demo.
    if options.demo and options.prometheus not in {None, os.environ.get(connection.PROMETHEUS)}:
        return "--demo uses simulated metrics: remove --prometheus"
    if options.gateway and urlsplit(options.gateway).scheme not in {"http", "https"}:
        return f"invalid --gateway {options.gateway}: must be a URL, as in http://kourier.kourier-system"
    if options.demo and options.gateway:
        return "--demo has a simulated gateway: remove --gateway"
    if options.demo and options.host not in LOOPBACK:
        return "--demo has one user, who signs in with the printed URL: use a loopback address"
    return ""


def _serve_cluster(options: Options) -> int:
    from ebbtide.cluster.client import pod
    from ebbtide.server.api import make

    profile: Profile | None = None
    if connection.is_profile_named(options):
        profile, data, problems = profiles.load_profile_with_data(choose_profile(options.profile))
        print_problems(problems)
        if profile is None:
            return 1
    anonymous_caller, local_caller, namespace = None, None, ""
    if not options.kubeconfig and pod.is_in_cluster():
        from ebbtide.cluster.client import kubernetes

        cluster = kubernetes.KubernetesCluster.from_pod()
    else:
        cluster, user = make.connect_kubeconfig(options.kubeconfig, options.context)
        anonymous_caller, local_caller = identify_local_user(options, user)
        namespace = cluster.namespace
    if profile is None:
        profile, data = _observe_profile(cluster)
    backend = make.make_cluster_backend(
        cluster,
        profile,
        data,
        connection.clock(),
        source=_source(options, cluster, profile),
        anonymous_caller=anonymous_caller,
        local_caller=local_caller,
        session_keys=_read_session_keys(options),
        read_only=options.read_only,
        gateway=options.gateway,
        gpu_hour=options.cost,
        namespace=namespace,
    )
    return serve_backend(backend, options)


def _read_session_keys(options: Options) -> tuple[str, ...]:
    """Return the keys of ``--session-key-file``, or exit if they are invalid."""
    if not options.session_key_file:
        return ()
    from cryptography.fernet import Fernet

    try:
        keys = tuple(Path(options.session_key_file).read_text().split())
        for key in keys:
            Fernet(key)
    except OSError as error:
        terminal.exit_with_message(f"error: cannot read the session keys: {(error.strerror or str(error)).lower()}")
    except ValueError:
        keys = ()
    if not keys:
        terminal.exit_with_message(
            f"error: invalid session keys in {options.session_key_file}: each line must be 32 bytes in URL-safe base64; "
            "create one with openssl rand -base64 32 | tr +/ -_"
        )
    return keys


def identify_local_user(options: Options, user: Caller) -> tuple[Caller | None, Caller | None]:
    """Return the anonymous and the local caller: the user on a Unix socket, the user with a secret on loopback, or none."""
    if options.unix_socket:
        return user, None
    if options.host in LOOPBACK and not options.behind_proxy:
        return None, replace(user, token=secrets.token_urlsafe(32))
    return None, None


def _observe_profile(cluster: KubernetesCluster) -> tuple[Profile, dict[str, Any]]:
    """Return the cluster's own profile, or the default one if the cluster does not answer, since the server starts anyway."""
    from ebbtide.cluster.client.protocol import ClusterError

    try:
        return connection.observe_profile(cluster)
    except ClusterError as error:
        terminal.write_stderr(f"Profile: {BUILT_IN_NAME}, because the cluster cannot be observed: {error}")
        return profiles.load_built_in(), BUILT_IN


def _source(options: Options, cluster: KubernetesCluster, profile: Profile) -> MetricsSource | None:
    """Return the metrics source: the address of ``--prometheus``, or the profile's, directly or through the API server."""
    from ebbtide.cluster.client import pod

    if options.prometheus is None and pod.is_in_cluster():
        options.prometheus = profile.spec.metrics.prometheus
    return connection.connect_metrics_source(cluster, options, profile)


def serve_backend(backend: Backend, options: Options) -> int:
    import uvicorn

    from ebbtide.server.api.app import make_app, make_server_config
    from ebbtide.server.api.protocol import ConnectionLimits, raise_file_limit
    from ebbtide.server.api.sessions import OneTimeKey
    from ebbtide.server.web.routes import make_router

    tls: dict[str, Any] = {"ssl_certfile": options.tls_cert, "ssl_keyfile": options.tls_key} if options.tls_cert else {}
    address = ""

    first_page: FirstPage | None = None

    def print_url(key: str) -> None:
        nonlocal first_page
        url = f"{address}?key={key}"
        if options.command == "open" and first_page is None:
            first_page = _open_browser(url, sockets[0].getsockname())
            return
        if first_page is not None:
            # The browser has used the first key.
            first_page.remove()
        terminal.write_stderr(f"Open {url} (valid once)")

    one_time_key = OneTimeKey(print_url) if backend.local_caller is not None else None
    pages = make_router(backend, secure=bool(tls) or options.behind_proxy, one_time_key=one_time_key)
    # A proxy sends the requests of all clients from its own address.
    limits = ConnectionLimits(max_per_address=0) if options.behind_proxy else ConnectionLimits()
    raise_file_limit()
    app = make_app(backend, make_settings(options), [pages])
    config = make_server_config(app, options.host, options.port, limits, **tls)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    try:
        sockets = [bind_unix_socket(options.unix_socket) if options.unix_socket else config.bind_socket()]
    except SystemExit:
        # uvicorn has logged the reason.
        return terminal.USAGE
    except OSError as error:
        subject = "open the Unix socket" if options.unix_socket else "read the TLS certificate or its key"
        terminal.exit_with_message(f"error: cannot {subject}: {(error.strerror or str(error)).lower()}")
    if options.unix_socket:
        address = options.unix_socket
    else:
        host, port = options.host, sockets[0].getsockname()[1]
        address = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/"
    terminal.write_stderr(f"Serving on {address} (press Ctrl-C to stop)")
    server = uvicorn.Server(config)
    try:
        if one_time_key is not None:
            one_time_key.renew()
        server.run(sockets)
    finally:
        if options.unix_socket:
            Path(options.unix_socket).unlink(missing_ok=True)
        if first_page is not None:
            first_page.remove()
    return 0 if server.started else connection.CLUSTER


def _open_browser(url: str, place: tuple[Any, ...]) -> FirstPage:
    """Open a private page that leads to the URL, and print the URL for a browser that cannot read the page."""
    from ebbtide.cli.operate.browser import FirstPage, exit_on_signals

    exit_on_signals()
    try:
        page = FirstPage(url)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        terminal.exit_with_message(f"error: cannot write the browser's first page: {reason}; use ebbtide serve")
    terminal.write_stderr(f"Opening the browser. If it shows no page, open {url} (valid once)")
    page.open(place)
    return page


def bind_unix_socket(path: str) -> socket.socket:
    """Return a Unix socket that only this account can open; replace one that a stopped server left.

    Raises:
        OSError: the path exists and is not an unused socket, or cannot be created.
    """
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(path)
                except ConnectionRefusedError:
                    Path(path).unlink()
    listener = socket.socket(socket.AF_UNIX)
    # The socket has its mode from the beginning: another account could open it before a later chmod.
    mask = os.umask(0o177)
    try:
        listener.bind(path)
        listener.listen()
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def make_settings(options: Options) -> ServerSettings:
    """Return the server's settings: the accepted host names, and whether it uses TLS."""
    from ebbtide.server.api.gate import LOCAL, ServerSettings

    names = {name.lower() for name in options.allow_host}
    if options.unix_socket or (options.host in LOOPBACK and not options.behind_proxy):
        # Against DNS rebinding: reject requests with another site's host name that resolves to this machine.
        names |= LOCAL
    return ServerSettings(hosts=frozenset(names), tls=bool(options.tls_cert), behind_proxy=options.behind_proxy)
