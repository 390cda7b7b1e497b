"""Operations on specs that need no cluster: parse, check, render, explain and simulate them, within limits.

A long text, and every text to explain or simulate, is processed in a worker process (``workers.py``), which is stopped at a time limit,
so that no request can keep the server's own process busy. Only plain data is passed in and out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from ebbtide.core.base.problems import Problem, has_errors, limit_problems
from ebbtide.core.documents import profiles, texts
from ebbtide.core.documents.check import Batch, check_documents
from ebbtide.core.documents.explain import Explanation, explain_document
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers.loaded import LoadedDocument
from ebbtide.core.translation.objects import Object
from ebbtide.server.api import simulation
from ebbtide.server.api.answers import Rendered
from ebbtide.server.api.workers import LimitExceededError, Workers
from ebbtide.simulator.search.request import SimulationRequest, SimulationRequestError

#: Maximum number of specs in a request, and in a request to explain them.
MAX_SPECS: Final = 500
MAX_EXPLAINED: Final = 50
#: Length of a text, in characters, that the server's own process checks or renders.
SHORT_TEXT: Final = 2**15
#: Seconds that the specs of a request may take, or its simulation, and that a search for settings may take.
MAX_SECONDS: Final = 30.0
SEARCH_SECONDS: Final = 120.0
#: Maximum simulations and other work of worker processes that run, that wait in the queue, and that one caller may have.
MAX_SIMULATIONS: Final = (2, 4)
MAX_WORK_PER_CALLER: Final = 3

T = TypeVar("T")


class InputError(Exception):
    """A spec has errors; ``problems`` lists them."""

    def __init__(self, problems: list[Problem]) -> None:
        """Store the problems, at most as many as a response may contain."""
        super().__init__("the spec has errors")
        self.problems = limit_problems(problems)

    def __reduce__(self) -> tuple[type[InputError], tuple[list[Problem]]]:
        """Support pickling, so that a worker can return the error."""
        return InputError, (self.problems,)


class Specs:
    """The operations on specs, for one profile and with one set of workers."""

    def __init__(self, profile: Profile, profile_data: dict[str, Any]) -> None:
        """Use a profile, and its document in workers; they start when they are first needed."""
        self._profile, self._profile_data = profile, profile_data
        self.workers = Workers(*MAX_SIMULATIONS, MAX_WORK_PER_CALLER)

    def documents(self, text: str) -> list[LoadedDocument]:
        """Parse a text into documents.

        Raises:
            LimitExceededError: the text has too many documents, or takes too long.
        """
        if len(text) > SHORT_TEXT:
            # Checked first in a process that can be stopped: what passes takes no longer here.
            self.check(text)
        return parse_documents(text, self._profile)

    def check(self, text: str) -> list[Problem]:
        """Return all problems of the specs in a text, alone and in combination."""
        return self._run_here_if_short(check_text, text)

    def render(self, text: str) -> Rendered:
        """Render the specs in a text into objects, with all problems; a spec with errors renders no objects."""
        return self._run_here_if_short(render_text, text)

    def _run_here_if_short(self, work: Callable[[str, Profile], T], text: str) -> T:
        if len(text) <= SHORT_TEXT:
            return work(text, self._profile)
        result: T = self._run(run_with_profile, work, text)
        return result

    def explain(self, text: str, part: str = "") -> list[Explanation]:
        """Explain the fields of the objects of the specs in a text, limited to fields whose path contains ``part``.

        Raises:
            InputError: a spec has errors.
            LimitExceededError: the text has too many specs, or takes too long.
        """
        explanations: list[Explanation] = self._run(explain_in_worker, text, part)
        return explanations

    def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function of this module on specs in a worker."""
        return self.workers.do(work, *arguments, self._profile_data, seconds=MAX_SECONDS)

    def simulate(self, request: SimulationRequest) -> dict[str, Any]:
        """Simulate a spec under traffic; returns the JSON of ``ebbtide simulate``, and raises as ``run_in_worker`` does."""
        return self.run_in_worker(simulation.run_simulation, request, seconds=MAX_SECONDS)

    def tune(self, request: SimulationRequest) -> dict[str, Any]:
        """Search for settings that meet the SLO; returns the JSON of ``ebbtide tune``, and raises as ``run_in_worker`` does."""
        return self.run_in_worker(simulation.run_search, request, seconds=SEARCH_SECONDS)

    def run_in_worker(self, work: Callable[..., T], *arguments: Any, seconds: float) -> T:
        """Run a simulation function in a worker, with the arguments and the profile's document; see ``Workers.do``.

        Raises:
            InputError: the request cannot be simulated.
            LimitExceededError: the work exceeds its limits, or the queue is full.
        """
        try:
            result: T = self.workers.do(work, *arguments, self._profile_data, seconds=seconds)
        except SimulationRequestError as error:
            raise InputError(error.problems) from None
        return result


def parse_documents(text: str, profile: Profile, most: int = MAX_SPECS) -> list[LoadedDocument]:
    """Parse a text into at most ``most`` documents.

    Raises:
        LimitExceededError: the text has more documents, or reading it takes too long.
    """
    documents: list[LoadedDocument] = []
    deadline = time.monotonic() + MAX_SECONDS
    for loaded in texts.load_text(text.encode(), "", profile):
        if len(documents) >= most:
            raise LimitExceededError(f"a request contains at most {most} specs: send fewer specs in a request")
        if time.monotonic() > deadline:
            raise LimitExceededError(f"the specs took longer than {MAX_SECONDS:g} s: send fewer specs in a request")
        documents.append(loaded)
    return documents


def require_valid(documents: Sequence[LoadedDocument], profile: Profile) -> None:
    """Raise an ``InputError`` if a document has errors."""
    problems = check_documents([*documents], profile)
    if has_errors(problems):
        raise InputError(problems)


def check_text(text: str, profile: Profile) -> list[Problem]:
    """Return the problems of the specs in a text, alone and in combination."""
    return limit_problems(check_documents(parse_documents(text, profile), profile))


def render_text(text: str, profile: Profile) -> Rendered:
    """Render the specs in a text, with all problems; a spec with errors renders no objects."""
    batch = Batch(profile)
    objects: list[Object] = []
    problems: list[Problem] = []
    for loaded in parse_documents(text, profile):
        rendered, _, new_problems = batch.add_document(loaded)
        problems += new_problems
        if not has_errors(new_problems):
            objects += rendered
    objects += batch.list_models()
    return Rendered(tuple(objects), tuple(limit_problems(problems + batch.batch_problems())))


# In a worker, which gets the profile's document: compiled profile classes cannot be pickled.


def run_with_profile(work: Callable[[str, Profile], T], text: str, profile_data: dict[str, Any]) -> T:
    """Run a function on the specs in a text."""
    return work(text, _load_profile(profile_data))


def explain_in_worker(text: str, part: str, profile_data: dict[str, Any]) -> list[Explanation]:
    """Explain the fields of the objects of the specs in a text, limited to fields whose path contains ``part``.

    Raises:
        InputError: a spec has errors.
    """
    profile = _load_profile(profile_data)
    documents = parse_documents(text, profile, MAX_EXPLAINED)
    require_valid(documents, profile)
    return [explain_document(loaded.reading.native, profile_data).select_fields(loaded, part) for loaded in documents]


def _load_profile(data: dict[str, Any]) -> Profile:
    profile, problems = profiles.validate_profile_data(data)
    assert profile is not None, problems
    return profile
