"""``ebbtide profile``: show or validate a cluster profile."""

from __future__ import annotations

import sys
from typing import Any, Final

from ebbtide.cli.base.common import choose_profile, exit_code, print_problems, write_json
from ebbtide.cli.base.options import PROFILE_VARIABLE, Options, make_option, make_output_option
from ebbtide.core import manifests
from ebbtide.core.documents import profiles
from ebbtide.core.translation.objects import prune_nulls
from ebbtide.core.translation.serving.knative import DEFAULTS, EVERY_FLAG

WHERE: Final = f"Cluster profile: a file, a directory, built-in or full (default: ${PROFILE_VARIABLE}, or built-in)"
OPTIONS: Final = (
    make_option(
        "action", choices=("show", "validate"), help="show prints the profile with all defaults, validate checks it"
    ),
    make_option("profile", nargs="?", metavar="P", help=WHERE),
    make_output_option("yaml", "json"),
)


def run(options: Options) -> int:
    profile, data, problems = profiles.load_profile_with_data(choose_profile(options.profile or ""))
    print_problems(problems)
    if profile is None:
        return 1
    if options.action == "validate":
        sys.stdout.write(f"{profile.metadata.name}: valid\n")
        return exit_code(problems)
    effective = _make_effective(data)
    if options.output == "json":
        write_json(effective)
    else:
        sys.stdout.write(manifests.write_document(effective))
    return 0


def _make_effective(data: dict[str, Any]) -> dict[str, Any]:
    from ebbtide.core.documents.explain import plain_data
    from ebbtide.core.profile.models import Profile

    effective: dict[str, Any] = plain_data(Profile.model_validate(data).model_dump(by_alias=True, warnings=False))
    features = effective["spec"]["knative"]["features"]
    effective["spec"]["knative"]["features"] = {
        flag: features.get(flag, DEFAULTS.get(flag, "disabled")) for flag in sorted({*EVERY_FLAG, *features})
    }
    return prune_nulls(effective)
