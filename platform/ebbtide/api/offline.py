"""Operations on specs that need no cluster: parse, check, render and explain a text, within limits.

A long text, and every text to explain, is processed in a worker process (``workers.py``), which is stopped at a time limit,
so that no request can keep the server's own process busy. Only plain data is passed in and out.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from ebbtide.api.answers import Rendered
from ebbtide.api.workers import LimitExceededError
from ebbtide.base.problems import Problem, has_errors, limit_problems
from ebbtide.documents import profiles, texts
from ebbtide.documents.check import Batch, check_documents
from ebbtide.documents.explain import explain_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebbtide.documents.explain import Explanation
    from ebbtide.profile.models import Profile
    from ebbtide.readers.loaded import LoadedDocument
    from ebbtide.translation.objects import Object

#: Maximum number of specs in a request, and in a request to explain them.
MAX_SPECS: Final = 500
MAX_EXPLAINED: Final = 50
#: Length of a text, in characters, that the server's own process checks or renders.
SHORT_TEXT: Final = 2**15
#: Seconds that the specs of a request may take.
MAX_SECONDS: Final = 30.0


class InputError(Exception):
    """A spec has errors; ``problems`` lists them."""

    def __init__(self, problems: list[Problem]) -> None:
        """Store the problems, at most as many as a response may contain."""
        super().__init__("the spec has errors")
        self.problems = limit_problems(problems)

    def __reduce__(self) -> tuple[type[InputError], tuple[list[Problem]]]:
        """Support pickling, so that a worker can return the error."""
        return InputError, (self.problems,)


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
    return Rendered(tuple(objects), tuple(limit_problems(problems + batch.batch_problems())))


# In a worker, which gets the profile's document: compiled profile classes cannot be pickled.


def check_in_worker(text: str, profile_data: dict[str, Any]) -> list[Problem]:
    """Return the problems of the specs in a text."""
    return check_text(text, _load_profile(profile_data))


def render_in_worker(text: str, profile_data: dict[str, Any]) -> Rendered:
    """Render the specs in a text."""
    return render_text(text, _load_profile(profile_data))


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
