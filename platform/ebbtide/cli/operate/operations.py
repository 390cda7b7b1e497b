"""The commands that change a live workload, made from their declarations: ``scale``, ``rollback``, ``suspend``, ``resume``."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.options import YES, Option, Options, make_option, make_output_option, make_parser, make_switch
from ebbtide.core.base.operations import CHANGES, Operation, Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebbtide.cluster.write.revisions import Values


def make_parameter_option(parameter: Parameter) -> Option:
    """Return the option of a parameter."""
    note = f" (default: {parameter.unset})" if parameter.unset else ""
    return make_option(
        parameter.flag, type=make_parser(parameter.parse), metavar=parameter.metavar, help=f"{parameter.help}{note}"
    )


def _list_options(operation: Operation) -> Iterator[Option]:
    yield from connection.WORKLOAD
    yield from map(make_parameter_option, operation.parameters)
    if operation.reset:
        yield make_switch("--reset", help=operation.reset)
    if operation.asks:
        yield YES
    yield connection.make_wait_option(operation.until)
    yield make_output_option("text", "json", "name")


def _run(operation: Operation, options: Options) -> int:
    given = {parameter.name: getattr(options, parameter.field) for parameter in operation.parameters}
    values = {name: value for name, value in given.items() if value is not None}
    if operation.reset and bool(values) == options.reset:
        *flags, last = (parameter.flag for parameter in operation.parameters)
        terminal.exit_with_message(f"error: set at least one of {', '.join(flags)} and {last}, or only --reset")
    return connection.run_on_cluster(options, lambda cluster: _change_workload(cluster, operation, options, values))


def _change_workload(cluster: connection.Cluster, operation: Operation, options: Options, values: Values) -> int:
    from ebbtide.cluster.write import revisions

    workload, change = connection.find_live_workload(cluster, options), revisions.CHANGES[operation.name]
    if reason := change.explain_no(workload, values):
        terminal.exit_with_message(f"error: {reason}", 1)
    if operation.asks and not terminal.ask_confirmation(change.ask(workload, values), yes=options.yes):
        return terminal.USAGE
    outcome = change.perform(cluster, workload, values)
    if outcome.note:
        terminal.write_stderr(outcome.note)
    terminal.print_result(workload.namespace, workload.name, outcome.message, options.output, **outcome.data)
    return connection.wait_until_settled(cluster, workload.name, workload.namespace, options.wait)


#: The command of each operation, with the attributes of a command's module.
COMMANDS: Final = {
    operation.name: SimpleNamespace(OPTIONS=(*_list_options(operation),), run=partial(_run, operation))
    for operation in CHANGES
}
