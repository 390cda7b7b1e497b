"""``ebbtide key create|list|rotate|revoke``: manage the API keys of a project's endpoint."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.options import YES, Options, make_option, make_output_option

OPTIONS: Final = (
    make_option(
        "action",
        choices=("create", "list", "rotate", "revoke"),
        help="Action; create and rotate print the key once, and rotate ends the former one",
    ),
    make_option("name", nargs="?", metavar="NAME", help="Name of the key"),
    *connection.WORKLOAD[1:],
    YES,
    make_output_option("text", "json"),
)


def run(options: Options) -> int:
    terminal.check_name(options, "key")
    return _run_on_cluster(options)


@connection.cluster_command
def _run_on_cluster(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.read import inventory
    from ebbtide.cluster.write import endpoints

    namespace = connection.resolve_namespace(cluster, options)
    if options.action == "list":
        rows = endpoints.list_keys(cluster, namespace)
        if not rows:
            inventory.require_namespace(cluster, namespace)
        if options.output == "json":
            terminal.write_data(rows, "json")
        elif rows:
            sys.stdout.write(terminal.format_table(("NAME", "CREATED"), [(row.name, row.created) for row in rows]))
        else:
            terminal.write_stderr("No keys found. To create one, run ebbtide key create NAME")
        return 0
    ends = options.action != "create"
    question = f"End the current key {options.name} in namespace {namespace}?"
    if ends and not terminal.ask_confirmation(question, yes=options.yes):
        return terminal.USAGE
    if options.action == "revoke":
        endpoints.revoke_key(cluster, options.name, namespace)
        return _print_result(options, {"namespace": namespace, "revoked": True}, f"revoked key {options.name}\n")
    now = datetime.fromtimestamp(connection.clock().now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        value = endpoints.create_key(cluster, options.name, namespace, now, replaces=ends)
    except ValueError as error:
        terminal.exit_with_message(f"error: {error}")
    url = endpoints.find_url(cluster, namespace)
    where = f"Base URL: {url}"
    if not url:
        where = f"The base URL is unknown: namespace {namespace} has no endpoint, or reading it is forbidden."
    elif connection.simulated is not None:
        host = url.split("/")[2]
        where += f", which the demo answers at {connection.simulated.gateway}/v1 with the header Host: {host}"
    terminal.write_stderr(f"The key {options.name} is shown only now. {where}")
    return _print_result(options, {"namespace": namespace, "key": value, "url": url or None}, f"{value}\n")


def _print_result(options: Options, values: dict[str, object], text: str) -> int:
    if options.output == "json":
        terminal.write_data({"name": options.name, **values}, "json")
    else:
        sys.stdout.write(text)
    return 0
