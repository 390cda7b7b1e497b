"""Generate tests/schemas from the CRDs and OpenAPI documents in upstream's Go modules.

Only structure is kept (types, properties, bounds), never prose. Where an API server would drop an
unknown field, the schema rejects it: a misspelt field is an error, not a silent loss.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, Final

import yaml

Schema = dict[str, Any]

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
OUTPUT: Final = ROOT / "tests" / "schemas"

KUBERNETES: Final = "k8s.io/kubernetes"
CORE: Final = "api/openapi-spec/v3/api__v1_openapi.json"
REF: Final = "#/components/schemas/"

# Keywords that constrain a value and contain no schema.
BOUNDS: Final = (
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "type",
    "uniqueItems",
)
COMBINERS: Final = ("allOf", "anyOf", "oneOf")
PARTS: Final = ("properties", "items", "additionalProperties", "not", *COMBINERS)
PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING: Final = "x-kubernetes-int-or-string"

# In OpenAPI these are text or a number, without further detail.
SCALARS: Final[dict[str, Schema]] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {
        "type": ["number", "string"],
        "pattern": r"^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$",
    },
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["integer", "string"]},
}

# Minimum length in characters of a repeated part that gets its own definition.
WORTH_SHARING: Final = 160

HEADER: Final = """\
# Made by tools/schemas/generate.py from tools/schemas/sources.toml: don't edit.
# Each schema holds the structure of the file that its row names, without its prose. All of these
# projects are under the Apache License 2.0. `spliced` names the fields that a CRD leaves open and
# Kubernetes' own structure closes here, `open` those that take any field; the status always does.
# `handmade` is our own account of a kind, from its documentation. CEL rules are not kept.
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """The structure of one kind, and its source."""

    group: str
    version: str
    name: str
    schema: Schema
    source: dict[str, str]
    spliced: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    #: The minor version of an older source, such as ``0.15``; empty: the version in ``[modules]``.
    older: str = ""

    @property
    def api_version(self) -> str:
        """The kind's `apiVersion`, such as `serving.knative.dev/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def file(self) -> str:
        """File name of the schema, such as `serving.knative.dev_v1_service.json`."""
        older = f"-{self.older}" if self.older else ""
        return f"{self.group or 'core'}_{self.version}_{self.name.lower()}{older}.json"


def main(arguments: list[str] | None = None) -> int:
    """Write the schemas; with --check, report the ones that are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if anything would change")
    check: bool = parser.parse_args(arguments).check
    files = generate()
    if not check:
        write(files, OUTPUT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write(files, Path(folder))
        stale = differing(Path(folder), OUTPUT)
    for name in stale:
        print(f"{OUTPUT.relative_to(ROOT) / name} is out of date: run tools/schemas/generate.py")
    return 1 if stale else 0


def write(files: dict[str, str], folder: Path) -> None:
    """Write these files to the folder, and delete all other schemas in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        if old.name not in files:
            old.unlink()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def differing(first: Path, second: Path) -> list[str]:
    """Return the names of files that are missing in one of the folders or differ."""

    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    ours, theirs = contents(first), contents(second)
    return sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))


def generate() -> dict[str, str]:
    """Return the text of every output file by its name."""
    sources = tomllib.loads((HERE / "sources.toml").read_text(encoding="utf-8"))
    modules = Modules(sources["modules"])
    core = openapi_definitions(modules.read(KUBERNETES, CORE))
    metadata = openapi_structure(core, "ObjectMeta")
    kinds = sorted(
        [
            *(crd_kind(modules, entry, core) for entry in sources["crd"]),
            *(kind for entry in sources["builtin"] for kind in builtin_kinds(modules, entry)),
            *(handmade_kind(entry["path"]) for entry in sources["handmade"]),
        ],
        key=lambda kind: kind.file,
    )
    files = {kind.file: dump(document(kind, metadata)) + "\n" for kind in kinds}
    return files | {"SOURCES.toml": account(kinds, modules.source(KUBERNETES, CORE))}


class Modules:
    """The Go module cache, filled by the Go command."""

    def __init__(self, versions: dict[str, str]) -> None:
        """Download the modules that are missing from the cache."""
        self._versions = versions
        self._folders = module_folders([f"{path}@{version}" for path, version in versions.items()])

    def read(self, module: str, path: str, version: str | None = None) -> bytes:
        """Return the contents of one file of a module, of an older ``version`` if it is set."""
        folder = module_folders([f"{module}@{version}"])[module] if version else self._folders[module]
        return (folder / path).read_bytes()

    def source(self, module: str, path: str, version: str | None = None) -> dict[str, str]:
        """Return the source of one file, with a hash that detects a changed download."""
        digest = hashlib.sha256(self.read(module, path, version)).hexdigest()
        return {"module": module, "version": version or self._versions[module], "path": path, "sha256": digest}


def module_folders(queries: list[str]) -> dict[str, Path]:
    """Return the folder of each module, by module path."""
    done = subprocess.run(
        ["go", "mod", "download", "-json", *queries], check=False, capture_output=True, text=True, cwd=HERE
    )
    modules = list(json_stream(done.stdout))
    failed = [module["Error"] for module in modules if "Error" in module]
    if failed or done.returncode:
        sys.exit("\n".join(failed) or done.stderr)
    return {module["Path"]: Path(module["Dir"]) for module in modules}


def json_stream(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a text that contains several of them."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:]


def crd_kind(modules: Modules, entry: dict[str, Any], core: dict[str, Schema]) -> Kind:
    """Return the kind that a CRD defines, with Kubernetes' structure where the CRD accepts any field."""
    older = entry.get("of")
    source = modules.source(entry["module"], entry["path"], older)
    spec = yaml.load(modules.read(entry["module"], entry["path"], older), yaml.CSafeLoader)["spec"]
    (schema,) = (
        version["schema"]["openAPIV3Schema"] for version in spec["versions"] if version["name"] == entry["version"]
    )
    splices = {path: openapi_structure(core, name) for path, name in entry.get("splice", {}).items()}
    left_open = open_fields(schema)
    if gone := splices.keys() - left_open:
        sys.exit(f"{entry['path']} leaves no such field open: {', '.join(sorted(gone))}")
    return Kind(
        spec["group"],
        entry["version"],
        spec["names"]["kind"],
        structure(schema, splices),
        source,
        spliced=tuple(sorted(splices)),
        open=tuple(sorted(left_open - splices.keys())),
        older=".".join(older.removeprefix("v").split(".")[:2]) if older else "",
    )


def builtin_kinds(modules: Modules, entry: dict[str, Any]) -> Iterator[Kind]:
    """Yield the named kinds of one of Kubernetes' OpenAPI documents."""
    source = modules.source(KUBERNETES, entry["path"])
    definitions = openapi_definitions(modules.read(KUBERNETES, entry["path"]))
    for name in entry["kinds"]:
        (known,) = definitions[only(definitions, name)]["x-kubernetes-group-version-kind"]
        schema = openapi_structure(definitions, name)
        yield Kind(known["group"], known["version"], known["kind"], schema, source)


def handmade_kind(path: str) -> Kind:
    """Return a kind with a manually written structure."""
    text = (HERE / path).read_bytes()
    entry = json.loads(text)
    source = {
        "handmade": f"tools/schemas/{path}",
        "sha256": hashlib.sha256(text).hexdigest(),
    }
    return Kind(entry["group"], entry["version"], entry["kind"], structure(entry["schema"]), source)


def openapi_definitions(text: bytes) -> dict[str, Schema]:
    """Return the definitions of an OpenAPI document, by full name."""
    definitions: dict[str, Schema] = json.loads(text)["components"]["schemas"]
    return definitions


def only(definitions: dict[str, Schema], short: str) -> str:
    """Return the full name of the only definition with this short name."""
    (name,) = (name for name in definitions if name.rpartition(".")[2] == short)
    return name


def openapi_structure(definitions: dict[str, Schema], short: str) -> Schema:
    """Return the structure of one definition, with references resolved."""

    def as_crd(_hint: str, node: Schema) -> Schema:
        # A reference is on its own or, with a description, in an `allOf` with one item.
        (reference,) = node["allOf"] if len(node.get("allOf", ())) == 1 else (node,)
        if name := reference.get("$ref", "").removeprefix(REF):
            return SCALARS.get(name) or as_crd(name, definitions[name])
        # Defaults that are Go's zero values have no effect: a required field remains required.
        crd_node = {key: value for key, value in node.items() if key != "default"}
        if node.get("type") == "object" and not {"properties", "additionalProperties"} & node.keys():
            crd_node[PRESERVE] = True
        return with_parts(crd_node, "", as_crd)

    return structure(as_crd(short, definitions[only(definitions, short)]))


def structure(node: Schema, splices: dict[str, Schema] | None = None, at: str = "") -> Schema:
    """Return a CRD's schema without prose, closed wherever the API server would drop unknown fields."""
    if splices and at in splices:
        return splices[at]
    result = bounds(node)
    for key in COMBINERS:
        if key in node and INT_OR_STRING not in node:
            result[key] = [bounds_within(branch) for branch in node[key]]
    if "not" in node:
        result["not"] = bounds_within(node["not"])
    properties = node.get("properties", {})
    if properties:
        result["properties"] = {
            name: structure(part, splices, f"{at}.{name}".removeprefix(".")) for name, part in properties.items()
        }
    # Defaults are set before the required fields of a CRD are checked.
    if required := sorted(name for name in node.get("required", ()) if "default" not in properties.get(name, {})):
        result["required"] = required
    if "items" in node:
        result["items"] = structure(node["items"], splices, f"{at}[]")
    if isinstance(extra := node.get("additionalProperties"), dict):
        result["additionalProperties"] = structure(extra, splices, f"{at}{{}}")
    elif node.get("type") == "object" and not node.get(PRESERVE) and extra is None:
        result["additionalProperties"] = False
    return result


def bounds(node: Schema) -> Schema:
    """Return only the keywords that constrain the value itself."""
    result: Schema = {key: node[key] for key in BOUNDS if key in node}
    if node.get(INT_OR_STRING):
        result["type"] = ["integer", "string"]
    if node.get("nullable"):
        result["type"] = [result["type"], "null"]
    if node.get("x-kubernetes-list-type") == "set":
        result["uniqueItems"] = True
    return result


def bounds_within(node: Schema) -> Schema:
    """Return a branch of a combination, which only restricts the surrounding schema."""
    result = bounds(node) | {key: node[key] for key in ("required",) if key in node}
    return with_parts(
        result | {key: node[key] for key in PARTS if key in node}, "", lambda _, part: bounds_within(part)
    )


def open_fields(node: Schema, at: str = "") -> set[str]:
    """Return the paths at which a CRD accepts any field, such as `spec.template.spec.affinity`; not in the status."""
    paths = {at} if node.get(PRESERVE) else set()
    for name, part in node.get("properties", {}).items():
        if (at, name) != ("", "status"):
            paths |= open_fields(part, f"{at}.{name}".removeprefix("."))
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(part := node.get(key), dict):
            paths |= open_fields(part, at + mark)
    return paths


def document(kind: Kind, metadata: Schema) -> Schema:
    """Return the complete schema of one kind, with repeated parts defined once."""
    status_properties = kind.schema.get("properties", {})
    properties = status_properties | {
        "apiVersion": {"const": kind.api_version},
        "kind": {"const": kind.name},
        "metadata": metadata | {"required": ["name"]},
    }
    if "status" in status_properties:
        # Only controllers write it, and it is as long as the spec.
        properties["status"] = {"type": "object"}
    required = sorted({"apiVersion", "kind", "metadata", *kind.schema.get("required", ())} - {"status"})
    whole = kind.schema | {"properties": properties, "required": required}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **shared(whole)}


def shared(root: Schema) -> Schema:
    """Move each part that occurs more than once to `$defs`, named after its field."""
    uses: Counter[str] = Counter()
    names: dict[str, str] = {}
    definitions: dict[str, Schema] = {}

    def tally(hint: str, node: Schema) -> Schema:
        text = dump(node)
        uses[text] += 1
        # Nested parts of a repeated part are written once, so they count once.
        return with_parts(node, hint, tally) if uses[text] == 1 else node

    def swap(hint: str, node: Schema) -> Schema:
        text = dump(node)
        if uses[text] == 1 or len(text) < WORTH_SHARING:
            return with_parts(node, hint, swap)
        if text not in names:
            names[text] = unused(hint, set(names.values()))
            definitions[names[text]] = with_parts(node, hint, swap)
        return {"$ref": f"#/$defs/{names[text]}"}

    tally("", root)
    body = with_parts(root, "", swap)
    return body | {"$defs": definitions} if definitions else body


def unused(name: str, taken: set[str]) -> str:
    """Return the name, with a number appended if it is already used."""
    return next(new for new in chain([name], (f"{name}{n}" for n in count(2))) if new not in taken)


def with_parts(node: Schema, hint: str, change: Callable[[str, Schema], Schema]) -> Schema:
    """Change each schema directly inside this one; ``change`` receives the field's name."""
    result = dict(node)
    for key in PARTS:
        part = node.get(key)
        if key == "properties" and part:
            result[key] = {name: change(name, part[name]) for name in sorted(part)}
        elif isinstance(part, dict):
            result[key] = change(hint, part)
        elif isinstance(part, list):
            result[key] = [change(hint, branch) for branch in part]
    return result


def account(kinds: list[Kind], core: dict[str, str]) -> str:
    """Return the text of SOURCES.toml."""
    blocks = [table("[splices]", core)]
    for kind in kinds:
        lists = {"spliced": list(kind.spliced), "open": list(kind.open)}
        blocks.append(table("[[schema]]", {"file": kind.file, **kind.source, **lists}))
    return "\n".join([HEADER, *blocks])


def table(head: str, values: Mapping[str, str | list[str]]) -> str:
    """Return one TOML table without empty values."""
    # A JSON string of plain characters is also a TOML string.
    return "\n".join([head, *(f"{key} = {toml(value)}" for key, value in values.items() if value), ""])


def toml(value: str | list[str]) -> str:
    """Return a string, or a list of strings on separate lines, as TOML."""
    if isinstance(value, str):
        return json.dumps(value)
    return "\n".join(["[", *(f"    {json.dumps(item)}," for item in value), "]"])


def dump(schema: Schema) -> str:
    """Return compact JSON with sorted keys."""
    return json.dumps(schema, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
