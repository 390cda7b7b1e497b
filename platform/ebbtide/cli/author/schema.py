"""``ebbtide schema``: print the JSON Schema of specs or profiles, with field descriptions, for editors."""

from __future__ import annotations

from typing import Final

from ebbtide.cli.base.common import write_json
from ebbtide.cli.base.options import Options, make_option

OPTIONS: Final = (
    make_option("what", nargs="?", choices=("spec", "profile"), default="spec", help="Document type (default: spec)"),
)


def run(options: Options) -> int:
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.readers.fields import make_json_schema  # reads the models' source
    from ebbtide.core.spec.inference import Inference

    write_json(make_json_schema(Profile if options.what == "profile" else Inference))
    return 0
