"""Conversion of each flag of ``runai inference submit`` to the native document."""

from __future__ import annotations

import operator
import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.core.base.problems import select_errors
from ebbtide.core.profile.built_in import FULL
from ebbtide.core.profile.models import Profile
from ebbtide.core.readers import shapes
from ebbtide.core.spec import rules
from ebbtide.core.spec.inference import Inference
from ebbtide.runai import command_lines, flag_parser, flags

if TYPE_CHECKING:
    from ebbtide.core.readers.reading import Reading

PROFILE = Profile.model_validate(FULL)
NAMED = operator.attrgetter("name")
FULL_PORT = (
    "container=8000,authorization-type=authorizedUsersOrGroups,authorized-users=ann:bob,"
    "authorized-groups=ml,cluster-local-access-only,protocol=grpc"
)


def read(*argv: str) -> Reading:
    """Return the reading of a command line that starts with a name and an image."""
    return flags.read_flags(["chat", "-i", "nginx", *argv], PROFILE)


def problems(reading: Reading) -> list[tuple[str, str]]:
    """Return the code and flag of each problem, of the reader and of the models."""
    of_reader = [(problem.code, problem.path) for problem in reading.problems]
    _, of_shape = shapes.validate_inference(reading.native)
    return of_reader + [(problem.code, str(reading.origin_of(problem.field)[0])) for problem in of_shape]


def at(reading: Reading, path: str) -> Any:
    """Return a part of the validated document: ``spec.autoscaling.minReplicas``."""
    inference, of_shape = shapes.validate_inference(reading.native)
    assert inference is not None, of_shape
    value: Any = Inference.model_validate(reading.native).model_dump(by_alias=True, exclude_unset=True)
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


#: Flag, arguments, native path, native value.
SUPPORTED: list[tuple[str, list[str], str, Any]] = [
    ("--project", ["--project", "team-a"], "spec.project", "team-a"),
    ("--label", ["--label", "team=a", "--label", "x="], "spec.labels.1", {"name": "x", "value": ""}),
    ("--annotation", ["--annotation", "n=a=b"], "spec.annotations", [{"name": "n", "value": "a=b"}]),
    ("--image", ["--image", "nginx:2"], "spec.image", "nginx:2"),
    ("--image-pull-policy", ["--image-pull-policy", "Never"], "spec.imagePullPolicy", "Never"),
    ("--image-pull-secret", ["--image-pull-secret", "reg"], "spec.imagePullSecrets", [{"name": "reg"}]),
    ("--command", ["--command", "--", "python", "-m", "x"], "spec.command", ["python", "-m", "x"]),
    (
        "--environment-variable",
        ["--environment-variable", "A=1", "-e", "B=SECRET:hf,token"],
        "spec.environmentVariables",
        [{"name": "A", "value": "1"}, {"name": "B", "secret": {"name": "hf", "key": "token"}}],
    ),
    ("--environment", ["--environment", "A=b,c"], "spec.environmentVariables.0.value", "b,c"),
    (
        "--env-secret",
        ["--env-secret", "TOKEN=hf,key=token"],
        "spec.environmentVariables",
        [{"name": "TOKEN", "secret": {"name": "hf", "key": "token"}}],
    ),
    (
        "--env-pod-field-ref",
        ["--env-pod-field-ref", "POD=metadata.name"],
        "spec.environmentVariables",
        [{"name": "POD", "podFieldRef": {"path": "metadata.name"}}],
    ),
    ("--working-dir", ["--working-dir", "/srv"], "spec.workingDir", "/srv"),
    ("--create-home-dir", ["--create-home-dir"], "spec.createHomeDir", True),
    ("--large-shm", ["--large-shm"], "spec.compute.largeShmRequest", True),
    ("--cpu-core-request", ["--cpu-core-request", "0.5"], "spec.compute.cpuCoreRequest", 0.5),
    ("--cpu-core-limit", ["--cpu-core-limit=2"], "spec.compute.cpuCoreLimit", 2.0),
    ("--cpu-memory-request", ["--cpu-memory-request", "1G"], "spec.compute.cpuMemoryRequest", "1G"),
    ("--cpu-memory-limit", ["--cpu-memory-limit", "2G"], "spec.compute.cpuMemoryLimit", "2G"),
    ("--gpu-devices-request", ["--gpu-devices-request", "1"], "spec.compute.gpuDevicesRequest", 1),
    ("--gpu-request-type", ["--gpu-request-type", "memory"], "spec.compute.gpuRequestType", "memory"),
    ("--gpu-portion-request", ["--gpu-portion-request", "0.5"], "spec.compute.gpuPortionRequest", 0.5),
    ("--gpu-portion-limit", ["--gpu-portion-limit", ".75"], "spec.compute.gpuPortionLimit", 0.75),
    ("--gpu-memory-request", ["--gpu-memory-request", "20G"], "spec.compute.gpuMemoryRequest", "20G"),
    ("--gpu-memory-limit", ["--gpu-memory-limit", "30G"], "spec.compute.gpuMemoryLimit", "30G"),
    (
        "--extended-resource",
        ["--extended-resource", "rdma/hca=1"],
        "spec.compute.extendedResources",
        [{"resource": "rdma/hca", "quantity": "1"}],
    ),
    ("--min-replicas", ["--min-replicas=0"], "spec.autoscaling.minReplicas", 0),
    ("--max-replicas", ["--max-replicas", "4"], "spec.autoscaling.maxReplicas", 4),
    ("--initial-replicas", ["--initial-replicas", "2"], "spec.autoscaling.initialReplicas", 2),
    ("--activation-replicas", ["--activation-replicas", "2"], "spec.autoscaling.activationReplicas", 2),
    ("--metric", ["--metric", "concurrency"], "spec.autoscaling.metric", "concurrency"),
    ("--metric-threshold", ["--metric-threshold", "100"], "spec.autoscaling.metricThreshold", 100.0),
    (
        "--metric-threshold-percentage",
        ["--metric-threshold-percentage", "82.5"],
        "spec.autoscaling.metricThresholdPercentage",
        82.5,
    ),
    (
        "--concurrency-hard-limit",
        ["--concurrency-hard-limit", "8"],
        "spec.autoscaling.concurrencyHardLimit",
        8,
    ),
    (
        "--scale-down-delay-seconds",
        ["--scale-down-delay-seconds", "60"],
        "spec.autoscaling.scaleDownDelaySeconds",
        60,
    ),
    (
        "--scale-to-zero-retention-seconds",
        ["--scale-to-zero-retention-seconds", "60"],
        "spec.autoscaling.scaleToZeroRetentionSeconds",
        60,
    ),
    (
        "--initialization-timeout-seconds",
        ["--initialization-timeout-seconds", "600"],
        "spec.servingConfiguration.initializationTimeoutSeconds",
        600,
    ),
    (
        "--request-timeout-seconds",
        ["--request-timeout-seconds", "60"],
        "spec.servingConfiguration.requestTimeoutSeconds",
        60,
    ),
    ("--serving-port", ["--serving-port", "8000"], "spec.servingPort", {"container": 8000}),
    (
        "--serving-port",
        [
            "--serving-port",
            FULL_PORT,
        ],
        "spec.servingPort",
        {
            "container": 8000,
            "authorizationType": "authorizedUsersOrGroups",
            "authorizedUsers": ["ann", "bob"],
            "authorizedGroups": ["ml"],
            "clusterLocalAccessOnly": True,
            "protocol": "grpc",
        },
    ),
    (
        "--serving-port",
        ["--serving-port", "container=8000,cluster-local-access-only=false"],
        "spec.servingPort.clusterLocalAccessOnly",
        False,
    ),
    (
        "--port",
        ["--port", "service-type=NodePort,container=80,external=8080"],
        "spec.ports",
        [{"serviceType": "NodePort", "container": 80, "external": 8080}],
    ),
    (
        "--external-url",
        ["--external-url", "container=8000,url=https://chat.example.com"],
        "spec.exposedUrls",
        [{"container": 8000, "url": "https://chat.example.com"}],
    ),
    (
        "--external-url",
        ["--external-url", "url=https://chat.example.com,authusers=ann:bob"],
        "spec.exposedUrls",
        [
            {
                "url": "https://chat.example.com",
                "authorizedUsers": ["ann", "bob"],
                "authorizationType": "authorizedUsers",
            }
        ],
    ),
    ("--node-pools", ["--node-pools", "b,a", "--node-pools", "c"], "spec.nodePools", ["b", "a", "c"]),
    ("--node-type", ["--node-type", "dgx"], "spec.nodeType", "dgx"),
    (
        "--exclude-node",
        ["--exclude-node", "n1", "--exclude-node", "n2"],
        "spec.nodeAffinityRequired.nodeSelectorTerms.0.matchExpressions",
        [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["n1", "n2"]}],
    ),
    (
        "--toleration",
        ["--toleration", "operator=Equal,key=gpu,value=a100,effect=NoExecute,seconds=60"],
        "spec.tolerations",
        [{"operator": "Equal", "key": "gpu", "value": "a100", "effect": "NoExecute", "seconds": 60}],
    ),
    (
        "--required-pod-topology-key",
        ["--required-pod-topology-key", "zone"],
        "spec.podAffinity",
        {"type": "Required", "key": "zone"},
    ),
    (
        "--preferred-pod-topology-key",
        ["--preferred-pod-topology-key", "key=zone"],
        "spec.podAffinity",
        {"type": "Preferred", "key": "zone"},
    ),
    ("--priority", ["--priority", "very-high"], "spec.priorityClass", "very-high"),
    ("--preemptibility", ["--preemptibility", "preemptible"], "spec.preemptibility", "preemptible"),
    (
        "--existing-pvc",
        ["--existing-pvc", "claimname=models,path=/models,readonly"],
        "spec.storage.pvc",
        [{"existingPvc": True, "claimName": "models", "path": "/models", "readOnly": True}],
    ),
    (
        "--new-pvc",
        ["--new-pvc", "claimname=m,storageclass=fast,size=10Gi,path=/m,accessmode-rwm,ro,ephemeral"],
        "spec.storage.pvc",
        [
            {
                "claimName": "m",
                "path": "/m",
                "readOnly": True,
                "ephemeral": True,
                "claimInfo": {
                    "storageClass": "fast",
                    "size": "10Gi",
                    "accessModes": {"readWriteMany": True, "readWriteOnce": False},
                },
            }
        ],
    ),
    (
        "--new-pvc",
        ["--new-pvc", "size=10Gi,path=/m"],
        "spec.storage.pvc",
        [{"path": "/m", "claimInfo": {"size": "10Gi"}}],
    ),
    *(
        (flag, [flag, "path=/share"], f"spec.storage.{field}", [{"text": "path=/share"}])
        for flag, field in (("--nfs", "nfs"), ("--host-path", "hostPath"), ("--git-sync", "git"))
    ),
    (
        "--secret-volume",
        ["--secret-volume", "path=/keys,name=keys"],
        "spec.storage.secretVolume",
        [{"mountPath": "/keys", "secret": "keys"}],
    ),
    (
        "--configmap-map-volume",
        ["--configmap-map-volume", "name=conf,path=/conf,subpath=a,default-mode=0644"],
        "spec.storage.configMapVolume",
        [{"configMap": "conf", "mountPath": "/conf", "subPath": "a", "defaultMode": "0644"}],
    ),
    (
        "--empty-dir-volume",
        ["--empty-dir-volume", "name=tmp,path=/scratch,medium=Memory,size-limit=1Gi"],
        "spec.storage.emptyDirVolume",
        [{"name": "tmp", "path": "/scratch", "medium": "Memory", "sizeLimit": "1Gi"}],
    ),
    ("--run-as-uid", ["--run-as-uid", "1000"], "spec.security.runAsUid", 1000),
    ("--run-as-gid", ["--run-as-gid", "1000"], "spec.security.runAsGid", 1000),
    ("--run-as-non-root", ["--run-as-non-root"], "spec.security.runAsNonRoot", True),
    (
        "--supplemental-groups",
        ["--supplemental-groups", "10,20", "--supplemental-groups=30"],
        "spec.security.supplementalGroups",
        "10,20,30",
    ),
    (
        "--user-group-source",
        ["--user-group-source", "fromTheImage"],
        "spec.security.uidGidSource",
        "fromTheImage",
    ),
    (
        "--seccomp-profile",
        ["--seccomp-profile", "RuntimeDefault"],
        "spec.security.seccompProfileType",
        "RuntimeDefault",
    ),
    (
        "--capability",
        ["--capability", "KILL", "--capability", "SYS_TIME"],
        "spec.security.capabilities",
        ["KILL", "SYS_TIME"],
    ),
]
#: Flag, arguments, code of the error.
REFUSED: list[tuple[str, list[str], str]] = [
    ("--name-prefix", ["--name-prefix", "chat"], "RUN002"),
    ("--environment", ["--environment", "pytorch"], "RUN001"),
    ("--gpu-request-type", ["--gpu-request-type", "migProfile"], "GPU001"),
    ("--template", ["--template", "llm"], "RUN001"),
    ("--compute", ["--compute", "half-gpu"], "RUN001"),
    ("--datasource", ["--datasource", "type=pvc,name=models"], "RUN001"),
    ("--datavolume", ["--datavolume", "name=models,mountpath=/m"], "STO004"),
    ("--env-my-credentials", ["--env-my-credentials", "type=ngcApiKey,name=KEY"], "ENV003"),
    ("--image-pull-my-credentials", ["--image-pull-my-credentials", "type=ngcApiKey,name=x"], "ENV003"),
    ("--attach", ["--attach"], "FLAGS006"),
    ("--run-as-user", ["--run-as-user"], "SEC004"),
    ("--host-ipc", ["--host-ipc"], "SEC006"),
    ("--host-network", ["--host-network=true"], "SEC006"),
    ("--privileged", ["--privileged"], "SEC006"),
    ("--image-pull-policy", ["--image-pull-policy", "always"], "SPEC004"),
    ("--min-replicas", ["--min-replicas", "one"], "SPEC002"),
    ("--min-replicas", ["--min-replicas", "0.5"], "SPEC002"),
    ("--min-replicas", ["--min-replicas", "-1"], "SPEC004"),
    ("--min-replicas", ["--min-replicas", "9" * 5000], "SPEC002"),
    ("--metric-threshold", ["--metric-threshold", "nan"], "SPEC002"),
    ("--large-shm", ["--large-shm=maybe"], "SPEC002"),
    ("--command", ["--command"], "FLAGS002"),
    ("--command", ["-c", "--"], "FLAGS002"),
    ("--image", ["--image="], "FLAGS002"),
    ("--gpu-devices-request", ["-g"], "FLAGS002"),
    ("--gpu-devices-request", ["-g", "--large-shm"], "FLAGS002"),
    ("--gpu-devices-request", ["-g", "--", "server"], "FLAGS002"),
    ("--label", ["--label", "team"], "SPEC002"),
    ("--label", ["--label", "=a"], "SPEC002"),
    ("--env-secret", ["--env-secret", "A=hf"], "SPEC002"),
    ("--node-pools", ["--node-pools", ","], "SPEC002"),
    ("--serving-port", ["--serving-port", "http"], "SPEC002"),
    ("--serving-port", ["--serving-port", "70000"], "SPEC004"),
    ("--serving-port", ["--serving-port", "protocol=grpc"], "SPEC003"),
    ("--serving-port", ["--serving-port", "container=8000,colour=red"], "SPEC001"),
    ("--serving-port", ["--serving-port", "container=8000,authorized-users="], "SPEC002"),
    ("--serving-port", ["--serving-port", "container=8000,cluster-local-access-only=1x"], "SPEC002"),
    ("--serving-port", ["--serving-port", "container=eight"], "SPEC002"),
    ("--existing-pvc", ["--existing-pvc", "claimname=models"], "SPEC003"),
    ("--existing-pvc", ["--existing-pvc", "claimname=m,path=models"], "SPEC004"),
    ("--toleration", ["--toleration", "operator=Equals,key=a"], "SPEC004"),
    ("--priority", ["--priority", ""], "FLAGS002"),
    ("--supplemental-groups", ["--supplemental-groups", "staff"], "SPEC004"),
]
#: Flags of Run:ai's client, which have no effect.
CLIENT: list[tuple[str, list[str]]] = [
    ("--pod-running-timeout", ["--pod-running-timeout", "5s"]),
    ("--wait-for-submit", ["--wait-for-submit", "1m"]),
    ("--config-file", ["--config-file", "a.json"]),
    ("--config-path", ["--config-path", "/a"]),
    ("--debug", ["-d"]),
    ("--quiet", ["-q"]),
    ("--verbose", ["--verbose"]),
]


def test_every_flag_of_the_table_has_a_case() -> None:
    cases = {row[0] for row in SUPPORTED} | {row[0] for row in REFUSED} | {row[0] for row in CLIENT}
    assert cases == {flag.name for flag in flags.FLAGS} - {"--help"}


@pytest.mark.parametrize(("flag", "words", "path", "expected"), SUPPORTED)
def test_a_supported_flag_is_set_in_the_native_document(flag: str, words: list[str], path: str, expected: Any) -> None:
    reading = read(*words)
    assert at(reading, path) == expected
    assert select_errors(reading.problems) == []
    row = flags.BY_NAME[flag]
    assert path.split(".")[: len(row.native)] == list(row.native)[: len(path.split("."))]


@pytest.mark.parametrize(("flag", "words", "code"), REFUSED)
def test_an_unsupported_flag_is_rejected(flag: str, words: list[str], code: str) -> None:
    reading = read(*words)
    assert (code, flag) in problems(reading)
    assert all(problem.fix for problem in reading.problems)


@pytest.mark.parametrize(("flag", "words"), CLIENT)
def test_a_flag_of_the_client_causes_a_warning(flag: str, words: list[str]) -> None:
    reading = read(*words)
    assert problems(reading) == [("FLAGS005", flag)]
    assert select_errors(reading.problems) == []
    assert reading.native == read().native


@pytest.mark.parametrize("flag", [flag for flag in flags.FLAGS if flag.kind == "switch"], ids=NAMED)
def test_a_boolean_flag_set_to_false_has_no_effect(flag: flag_parser.Flag) -> None:
    reading = read(f"{flag.name}=false")
    assert select_errors(reading.problems) == []
    assert at(reading, "spec.image") == "nginx"


@pytest.mark.parametrize("flag", [flag for flag in flags.FLAGS if flag.kind != "switch"], ids=NAMED)
def test_a_flag_without_a_value_is_rejected(flag: flag_parser.Flag) -> None:
    reading = read(flag.name)
    assert [(problem.code, problem.path) for problem in reading.problems] == [("FLAGS002", flag.name)]
    assert reading.problems[0].fix.startswith(f"write {flag.name} ")


@pytest.mark.parametrize("flag", [flag for flag in flags.FLAGS if flag.choices], ids=NAMED)
def test_the_models_accept_each_choice_of_a_flag(flag: flag_parser.Flag) -> None:
    for choice in flag.choices:
        assert problems(read(flag.name, choice)) == []


@pytest.mark.parametrize(
    "words", [["-g", "2"], ["-g2"], ["-g=2"], ["--gpu-devices-request=2"], ["--gpu-devices-request", "2"]]
)
def test_every_syntax_of_pflag_is_supported(words: list[str]) -> None:
    assert at(read(*words), "spec.compute") == {"gpuDevicesRequest": 2}


def test_a_fraction_of_a_device_has_its_own_flag() -> None:
    assert [row.fix for row in read("-g", "0.5").problems] == ["use --gpu-portion-request 0.5"]
    assert [row.fix for row in read("-g", "1.5").problems] == ["write --gpu-devices-request N"]


def test_short_boolean_flags_can_be_combined() -> None:
    assert problems(read("-qd")) == [("FLAGS005", "--quiet"), ("FLAGS005", "--debug")]
    assert at(read("-cg2", "--", "sh"), "spec.compute.gpuDevicesRequest") == 2
    assert at(read("-cg2", "--", "sh"), "spec.command") == ["sh"]


def test_arguments_after_two_dashes_are_the_containers_arguments_or_command() -> None:
    assert at(read("--", "--model", "a"), "spec.args") == ["--model", "a"]
    assert at(read("-c", "--", "sh", "--", "x"), "spec.command") == ["sh", "--", "x"]
    assert at(read("--command=false", "--", "sh"), "spec.args") == ["sh"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["runai", "inference", "distributed", "submit", "chat", "--image", "x"], "RUN046"),
        (["chat", "--image", "x", "--workers", "2"], "RUN046"),
        (["chat", "--image", "x", "--leader-image", "y"], "RUN046"),
    ],
)
def test_other_kinds_of_inference_are_refused_by_name(words: list[str], code: str) -> None:
    reading = command_lines.read_command_line(words, PROFILE)

    assert [problem.code for problem in reading.problems] == [code]


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("runai inference list -p team-a", "use ebbtide list"),
        ("runai inference update chat -i nginx", "change the spec and use ebbtide apply"),
        ("runai inference nim scale chat --replicas 2", "use ebbtide scale"),
        ("runai inference nim submit chat -i nginx", "use runai inference submit"),
        ("runai inference huggingface submit chat", "use runai inference submit; a Hugging Face model"),
        ("runai inference", "use runai inference submit"),
        ("runai workspace submit chat -i nginx", "Ebbtide serves inference only"),
        ("runai training pytorch submit chat -i nginx", "Ebbtide serves inference only"),
        ("runai submit chat -i nginx --inference", "write the line as runai inference submit"),
        ("runai", "Ebbtide serves inference only"),
    ],
)
def test_another_command_of_runai_is_refused_with_what_to_use(line: str, fix: str) -> None:
    reading = command_lines.read_command_line(shlex.split(line), PROFILE)

    assert [problem.code for problem in reading.problems] == ["FLAGS192"]
    assert reading.problems[0].fix.startswith(fix)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["-gpu-devices-request", "1", "--gpu-memory-request", "50M", "--serving-port=8000", "--min-replicas=0"], 4),
        (["--model", "a", "--port", "8000"], 0),
        (["--max-model-len", "4096", "--image", "x"], 0),
    ],
)
def test_flags_of_the_workload_after_the_dashes_are_named(words: list[str], named: int) -> None:
    reading = read("--", "serve", *words)

    warnings = [problem for problem in reading.problems if problem.code == "FLAGS046"]
    assert at(reading, "spec.args") == ["serve", *words]
    assert sum(word.partition("=")[0] in warning.message for warning in warnings for word in words) == named


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("--min-replica", "did you mean --min-replicas?"),
        ("--gpu", "did you mean --gpu-devices-request?"),
        ("-gpu-devices-request", "did you mean --gpu-devices-request?"),
        ("--xyzzy", "see the list of flags with --help"),
        ("-z", "see the list of flags with --help"),
    ],
)
def test_an_unknown_flag_is_rejected_with_a_suggestion(written: str, meant: str) -> None:
    for words in ([written, "1"], [written + "1"] if len(written) == len("-z") else [f"{written}=1"]):
        reading = read(*words)
        assert [(problem.code, problem.field, problem.fix) for problem in reading.problems[:1]] == [
            ("FLAGS001", (written,), meant)
        ]


@pytest.mark.parametrize(
    "program", ["runai", "./runai-cli-amd64.exe", "/usr/local/bin/runai", r"C:\tools\runai.exe", "my-cli"]
)
def test_a_line_starts_with_the_path_of_any_program(program: str) -> None:
    line = [program, "inference", "submit", "chat", "-p", "team-a", "-i", "nginx", "--min-scale", "0", "--max-scale=1"]
    reading = command_lines.read_command_line(line, PROFILE)

    assert problems(reading) == []
    assert reading.native["metadata"]["name"] == "chat"
    assert reading.native["spec"]["autoscaling"] == {"minReplicas": 0, "maxReplicas": 1}


def test_an_exposed_url_needs_no_host_name() -> None:
    """As in a REST body, where Run:ai generates the host name."""
    reading = read("--external-url", "container=8080")

    assert problems(reading) == []
    assert reading.native["spec"]["exposedUrls"] == [{"container": 8080}]


def test_the_value_of_an_unknown_flag_is_not_a_second_name() -> None:
    assert problems(read("--gpus", "1")) == [("FLAGS001", "--gpus")]


def test_every_suggestion_is_a_flag() -> None:
    assert set(flag_parser.HABITS.values()) <= set(flags.BY_NAME)
    assert set(flag_parser.HABITS).isdisjoint(flags.BY_NAME)


def test_exactly_one_name_is_required() -> None:
    missing = flags.read_flags(["--image", "nginx"], PROFILE)
    assert problems(missing) == [("SPEC003", "NAME")]
    many = read("web", "--large-shm", "true")
    assert problems(many) == [("FLAGS003", "NAME"), ("FLAGS003", "NAME")]
    assert many.problems[1].fix == "set the value of a boolean flag with an equals sign: --large-shm=true"
    prefix = flags.read_flags(["--name-prefix", "chat"], PROFILE)
    assert problems(prefix) == [("RUN002", "--name-prefix")]


@pytest.mark.parametrize("front", [[], ["runai", "inference", "submit"], ["runai", "inference", "standard", "submit"]])
def test_a_copied_command_line_is_supported(front: list[str]) -> None:
    reading = command_lines.read_command_line([*front, "submit", "-i", "nginx"], PROFILE)
    assert at(reading, "metadata.name") == "submit"
    assert problems(reading) == []


def test_the_last_of_two_values_is_used_with_a_warning() -> None:
    reading = read("-g", "1", "-g", "2")
    assert at(reading, "spec.compute.gpuDevicesRequest") == 2
    assert problems(reading) == [("FLAGS004", "--gpu-devices-request")]
    assert select_errors(reading.problems) == []


def test_required_and_preferred_topology_exclude_each_other() -> None:
    reading = read("--required-pod-topology-key", "zone", "--preferred-pod-topology-key", "zone")
    assert [problem.code for problem in select_errors(reading.problems)] == ["FLAGS004"]


def test_problems_of_the_rules_name_their_flags() -> None:
    reading = read("--min-replicas", "3", "--max-replicas", "2", "--nfs", "path=/a,server=b,mountpath=/c")
    inference, _ = shapes.validate_inference(reading.native)
    assert inference is not None
    reported = {(problem.code, reading.origin_of(problem.field)) for problem in rules.check(inference)}
    assert reported == {("AUT001", ("--min-replicas",)), ("STO002", ("--nfs",))}


def test_a_missing_field_is_reported_by_its_flag() -> None:
    reading = flags.read_flags(["chat", "--min-replicas", "1", "--max-replicas", "2"], PROFILE)
    inference, _ = shapes.validate_inference(reading.native)
    assert inference is not None
    reported = {(problem.code, reading.origin_of(problem.field)) for problem in rules.check(inference)}
    assert reported == {("SRV001", ("--image",)), ("AUT002", ("--metric",))}


def test_all_problems_are_reported_together() -> None:
    reading = flags.read_flags(["--min-replicas", "x", "--tepmlate", "--attach", "-g"], PROFILE)
    assert {code for code, _ in problems(reading)} == {"SPEC002", "FLAGS001", "FLAGS006", "FLAGS002", "SPEC003"}


def test_the_help_has_a_line_for_every_flag_with_an_effect_and_names_the_others() -> None:
    explained, _, named = flags.format_flags().partition(f"\n{flags.FOLDED[0][0]}:\n")
    lines = [line for line in explained.splitlines() if line.lstrip().startswith("-")]
    folded = [flag for flag in flags.FLAGS if any(text in flag.help for _, text in flags.FOLDED)]
    rest = [flag for flag in flags.FLAGS if flag not in folded and flag.name != "--help"]
    for flag, line in zip(rest, lines, strict=True):
        assert flag.name in line.split()
        assert flag.help in line
        assert (f"{flag.short}," in line.split()) == bool(flag.short)
    assert {flag.name for flag in folded} == set(re.findall(r"--[\w-]+", named))
    assert [title for title, _ in flags.GROUPS] == re.findall(r"^(\w.*):$", explained, re.MULTILINE)


def test_no_two_flags_share_a_name() -> None:
    shorts = sum(bool(flag.short) for flag in flags.FLAGS)
    assert len(flags.BY_NAME) == len(flags.FLAGS) + shorts + len(flags.OLD_NAMES)


WORDS = (
    st.sampled_from([*flags.BY_NAME, *flag_parser.HABITS, "--", "-", "=", "true"])
    | st.text(max_size=10)
    | st.builds(
        "{}={}".format,
        st.sampled_from([flag.name for flag in flags.FLAGS]),
        st.text(max_size=8) | st.sampled_from(["9" * 5000, "1e999", "a=b,c", "container=1,x", ",,=,", "path=/a"]),
    )
    | st.builds("{}{}".format, st.sampled_from(["-g", "-c", "-qd", "-e"]), st.text(max_size=4))
)


@given(argv=st.lists(WORDS, max_size=12))
def test_every_command_line_is_converted_or_has_a_problem(argv: list[str]) -> None:
    reading = command_lines.read_command_line(argv, PROFILE)
    inference, of_shape = shapes.validate_inference(reading.native)
    assert (inference is None) == bool(of_shape)
    assert all(isinstance(reading.origin_of(problem.field)[0], str) for problem in of_shape)
    assert all(problem.field and problem.message and problem.fix for problem in reading.problems)


#: Command lines in the shapes of Run:ai's documentation of 2.18 to 2.25 and of public tutorials: the version, the words after
#: ``submit``, and either the expected fields of the spec, or the codes of the refusal.
QUICKSTARTS: tuple[tuple[str, str, dict[str, Any] | list[str]], ...] = (
    (
        "2.18 to 2.20, with the flags of its examples, which its list of flags does not have",
        (
            "chat -p team-a -i ghcr.io/knative/helloworld-go --gpu-devices-request 1 --serving-port=8080 --min-scale=0 "
            "--max-scale=1"
        ),
        {"autoscaling": {"minReplicas": 0, "maxReplicas": 1}},
    ),
    (
        "2.20, scale to zero",
        (
            "chat -p team-a -i ghcr.io/knative/helloworld-go --gpu-devices-request 1 --serving-port=8080 --min-replicas=0 "
            "--max-replicas=1"
        ),
        {
            "project": "team-a",
            "compute": {"gpuDevicesRequest": 1},
            "servingPort": {"container": 8080},
            "autoscaling": {"minReplicas": 0, "maxReplicas": 1},
        },
    ),
    (
        "2.20, autoscaling and authorization",
        (
            "chat -p team-a -i ghcr.io/knative/helloworld-go --gpu-devices-request 1 --serving-port=container=8080,"
            "authorization-type=authorizedUsersOrGroups,authorized-users=user1:user2,protocol=http --min-replicas=1 "
            "--max-replicas=4 --metric=concurrency --metric-threshold=100"
        ),
        {
            "servingPort": {
                "container": 8080,
                "authorizationType": "authorizedUsersOrGroups",
                "authorizedUsers": ["user1", "user2"],
                "protocol": "http",
            },
            "autoscaling": {"minReplicas": 1, "maxReplicas": 4, "metric": "concurrency", "metricThreshold": 100},
        },
    ),
    ("2.22, a template", "chat -p team-a --template llm", ["RUN001"]),
    ("2.22, an asset", "chat -p team-a --environment llm-server", ["RUN001"]),
    (
        "2.21 to 2.23, Run:ai's vLLM image",
        (
            "chat -p team-a -i runai.jfrog.io/core-llm/runai-vllm:v0.6.4-0.10.0 -e RUNAI_MODEL=meta-llama/Llama-3.2-1B-Instruct "
            "-e RUNAI_MODEL_NAME=Llama-3.2-1B-Instruct -e VLLM_RPC_TIMEOUT=60000 --gpu-devices-request 1 "
            "--gpu-portion-request 0.5 --serving-port=8000 --min-replicas=0 --max-replicas=2 --metric=concurrency "
            "--metric-threshold 3 --scale-to-zero-retention-seconds 300"
        ),
        {
            "environmentVariables": [
                {"name": "RUNAI_MODEL", "value": "meta-llama/Llama-3.2-1B-Instruct"},
                {"name": "RUNAI_MODEL_NAME", "value": "Llama-3.2-1B-Instruct"},
                {"name": "VLLM_RPC_TIMEOUT", "value": "60000"},
            ],
            "compute": {"gpuDevicesRequest": 1, "gpuPortionRequest": 0.5},
            "servingPort": {"container": 8000},
            "autoscaling": {
                "minReplicas": 0,
                "maxReplicas": 2,
                "metric": "concurrency",
                "metricThreshold": 3,
                "scaleToZeroRetentionSeconds": 300,
            },
        },
    ),
    (
        "2.25, flags before the arguments",
        (
            "chat --image nvcr.io/nvidia/tritonserver:26.02-py3 --gpu-devices-request 1 --gpu-memory-request 50M "
            "--serving-port=8000 --min-replicas=0 --max-replicas=2 --metric=concurrency --metric-threshold 3 "
            "--scale-to-zero-retention-seconds 300 --command -- /bin/bash -c 'tritonserver --model-repository=/models'"
        ),
        {
            "command": ["/bin/bash", "-c", "tritonserver --model-repository=/models"],
            "compute": {"gpuDevicesRequest": 1, "gpuMemoryRequest": "50M"},
        },
    ),
    (
        "2.25 as printed, flags after the arguments",
        (
            "chat --image nvcr.io/nvidia/tritonserver:26.02-py3 --command -- /bin/bash -c 'tritonserver "
            "--model-repository=/models' -gpu-devices-request 1 --gpu-memory-request 50M --serving-port=8000 --min-replicas=0 "
            "--max-replicas=2 --metric=concurrency --metric-threshold 3 --scale-to-zero-retention-seconds 300"
        ),
        ["FLAGS046"],
    ),
    (
        "a tutorial of vLLM",
        "chat -p team-a -i vllm/vllm-openai:latest --gpu-devices-request 1 --serving-port 8000 -- Qwen/Qwen3-0.6B",
        {"args": ["Qwen/Qwen3-0.6B"], "servingPort": {"container": 8000}},
    ),
    (
        "a claim and a secret",
        (
            "chat -p team-a -i vllm/vllm-openai:latest -g 2 --existing-pvc claimname=models,path=/data --large-shm "
            "-e HF_TOKEN=SECRET:hf,token --node-pools a100 -- --model /data/small"
        ),
        {
            "storage": {"pvc": [{"existingPvc": True, "claimName": "models", "path": "/data"}]},
            "environmentVariables": [{"name": "HF_TOKEN", "secret": {"name": "hf", "key": "token"}}],
            "nodePools": ["a100"],
            "compute": {"gpuDevicesRequest": 2, "largeShmRequest": True},
        },
    ),
    (
        "delays and a pull policy",
        (
            "chat -p team-a -i ghcr.io/acme/classifier:1 --serving-port=8000 --min-replicas=0 --max-replicas=1 "
            "--scale-down-delay-seconds 3600 --image-pull-policy Always -c -- python inference_api.py"
        ),
        {
            "command": ["python", "inference_api.py"],
            "imagePullPolicy": "Always",
            "autoscaling": {"minReplicas": 0, "maxReplicas": 1, "scaleDownDelaySeconds": 3600},
        },
    ),
    ("distributed", "chat -p team-a -i vllm/vllm-openai:latest --workers 2 -g 4", ["RUN046"]),
)


@pytest.mark.parametrize(("line", "expected"), [row[1:] for row in QUICKSTARTS], ids=[row[0] for row in QUICKSTARTS])
def test_quickstart_lines_do_what_they_say_or_are_refused_by_name(
    line: str, expected: dict[str, Any] | list[str]
) -> None:
    reading = command_lines.read_command_line(["runai", "inference", "submit", *shlex.split(line)], PROFILE)
    codes = [code for code, _ in problems(reading)]

    if isinstance(expected, list):
        assert codes == expected
    else:
        assert codes == []
        assert {name: at(reading, f"spec.{name}") for name in expected} == expected


def test_a_new_claim_with_an_unknown_key_is_not_added() -> None:
    reading = read("--new-pvc", "size=1G,path=/data,colour=red")

    assert [(problem.code, problem.path) for problem in reading.problems] == [("SPEC001", "--new-pvc")]
    assert "storage" not in reading.native["spec"]


def test_an_external_url_with_an_unknown_key_is_not_added() -> None:
    reading = read("--external-url", "container=80,url=chat.example.com,colour=red")

    assert [(problem.code, problem.path) for problem in reading.problems] == [("SPEC001", "--external-url")]
    assert "exposedUrls" not in reading.native["spec"]
