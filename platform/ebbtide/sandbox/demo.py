"""``--demo``: run a command for a cluster, or the server, on a simulated one, which exists as long as the process.

While a server of the demo runs, the commands use its cluster.
"""

from __future__ import annotations

import errno
import gc
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import connection, files, terminal
from ebbtide.cli.base.options import PROFILE_VARIABLE, Options
from ebbtide.cli.operate import serve
from ebbtide.sandbox import shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

#: Length of the simulated past in hours. The server's demo has a longer one, which takes longer to generate.
HOURS: Final = 0.25
#: Name of the Unix socket in the user's state directory, on which a server shares its cluster with commands.
SOCKET: Final = "demo.sock"
#: Namespace of the commands that name none.
NAMESPACE: Final = "team-a"
#: The account whose token the server's demo prints, and the token's validity. It may do everything.
ACCOUNT: Final = "system:serviceaccount:ebbtide:demo"
TOKEN_SECONDS: Final = 30 * 86_400.0
#: Commands with an own simulated cluster.
SERVERS: Final = ("serve", "open")


def run_on_demo(command: str, module: ModuleType, words: list[str], parse: Callable[[list[str]], Options]) -> int:
    """Run a command on a simulated cluster and return its exit code; ``parse`` parses its arguments."""
    # They describe the user's own cluster.
    for variable in (PROFILE_VARIABLE, connection.PROMETHEUS):
        os.environ.pop(variable, None)
    flags = {name for option in module.OPTIONS for name in option.names}
    if "--kubeconfig" not in flags:
        terminal.exit_with_message(f"ebbtide: error: {command} needs no cluster: remove --demo")
    if command in SERVERS:
        options = parse([*words, "--demo"])
        return int(module.run(options))
    if hasattr(module, "run_words"):
        return _run_simulated(lambda: int(module.run_words(words[1:])))
    options = parse(words)
    for name in ("kubeconfig", "context", "prometheus"):
        if getattr(options, name, None):
            terminal.exit_with_usage_error(f"--demo uses a simulated cluster: remove --{name}", command)
    return _run_simulated(lambda: int(module.run(options)))


def _run_simulated(work: Callable[[], int]) -> int:
    try:
        from ebbtide.sandbox import gateway, services  # they need numpy
    except ImportError as error:
        terminal.exit_with_message(
            f"error: the simulated cluster's packages are not installed ({error}); install the wheel with the extra demo"
        )
    if (parts := _connect_server()) is not None:
        terminal.write_stderr("Simulated cluster of the running demo server: changes stay until it ends")
        return _run_on_parts(work, parts)
    terminal.write_stderr("Simulated cluster: changes are lost when the command ends")
    # Generating the past creates many objects, and the entry point disables garbage collection.
    gc.enable()
    world = services.demo_world(hours=HOURS)
    world.cluster.namespace = NAMESPACE
    with world.running(), gateway.serve_gateway(world) as address:
        return _run_on_parts(work, shared.SharedParts(world.cluster, world.source, world.clock, address))


def _connect_server() -> shared.SharedParts | None:
    """Return the cluster of this user's running demo server; None if none runs."""
    folder = files.find_state_folder()
    return None if folder is None else shared.connect_parts(str(folder / SOCKET), NAMESPACE)


def _run_on_parts(work: Callable[[], int], parts: shared.SharedParts) -> int:
    from ebbtide.sandbox import services

    connection.simulated = connection.SimulatedConnection(*parts, services.demo_profile(), services.PROFILE)
    try:
        return work()
    finally:
        connection.simulated = None


@contextmanager
def share_with_commands(parts: shared.SharedParts) -> Iterator[None]:
    """Let commands with ``--demo`` use this server's cluster inside the context, unless they use another server's."""
    folder = files.find_state_folder()
    if folder is None:
        yield
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        listener = serve.bind_unix_socket(str(folder / SOCKET))
    except OSError as error:
        reason = "another demo server is running" if error.errno == errno.EADDRINUSE else str(error)
        terminal.write_stderr(f"note: commands with --demo do not use this cluster: {reason}")
        yield
        return
    terminal.write_stderr("Commands with --demo use this cluster while the server runs")
    with shared.share_parts(listener, parts):
        yield


def serve_demo(options: Options) -> int:
    """Serve a simulated cluster with a generated history until a signal ends the process."""
    from ebbtide.sandbox import backend as sandbox
    from ebbtide.sandbox import gateway, services

    terminal.write_stderr("Generating the history of the simulated cluster; this takes about 10 seconds")
    world = services.demo_world()
    anonymous_caller, local_caller = serve.identify_local_user(options, sandbox.ANONYMOUS_CALLER)
    account = sandbox.make_account(ACCOUNT, connection.clock().now() + TOKEN_SECONDS)
    terminal.write_stderr(f"Token of this demo for API clients: client ID {ACCOUNT}, client secret {account.token}")
    with world.running(), gateway.serve_gateway(world) as address:
        backend = sandbox.make_simulated_backend(
            world.cluster,
            services.demo_profile(),
            services.PROFILE,
            connection.clock(),
            source=world.source,
            read_only=options.read_only,
            demo=True,
            gpu_hour=options.cost,
            anonymous_caller=anonymous_caller,
            local_caller=local_caller,
            tokens={account.token: account},
            rules=(sandbox.allow_all(ACCOUNT),),
            gateway=address,
        )
        with share_with_commands(shared.SharedParts(world.cluster, world.source, world.clock, address)):
            return serve.serve_backend(backend, options)
