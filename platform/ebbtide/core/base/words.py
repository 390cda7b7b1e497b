"""Words of documents with a meaning that their author may not know: booleans of YAML 1.1, expressions of templates."""

from __future__ import annotations

import re
from typing import Final

#: Booleans in YAML 1.1, strings in YAML 1.2. kubectl reads all of them as booleans, PyYAML all except y and n.
LEGACY_BOOLEANS: Final[dict[str, bool]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF"), False),
}
#: An expression of Go's templates or Jinja, or a variable of envsubst.
TEMPLATE: Final = re.compile(r"\{\{.*?(?:\}\}|$)|\{%.*?(?:%\}|$)|\$\{\w+\}", re.MULTILINE)
RENDER_FIX: Final = "this is a template: render it first, for example with helm template, and use the output"
