"""The whole document: ``kind: Inference``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ebbtide.spec.autoscaling import Autoscaling
from ebbtide.spec.compute import Compute
from ebbtide.spec.container import Probes, PullSecret, Security, Variable
from ebbtide.spec.scalars import Label, Model, Named, Text, Words, nothing
from ebbtide.spec.scheduling import NodeAffinity, PodAffinity, Toleration
from ebbtide.spec.serving import (
    ExposedPort,
    ExposedUrl,
    Patch,
    RelatedUrl,
    ServedModel,
    ServingConfiguration,
    ServingPort,
    Slo,
    Traffic,
)
from ebbtide.spec.storage import Storage


class Metadata(Model):
    """The document's name and the labels of the object that is made."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """The workload's name: lower-case letters, digits and dashes, a letter first."""
    namespace: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """The namespace; usually left to the project."""
    labels: dict[str, Label] | None = None
    """Labels of the object itself; unlike spec.labels they change no pod, but under KServe, which copies them."""
    annotations: dict[str, str] | None = None
    """Annotations of the object itself; unlike spec.annotations they change no pod, but under KServe, which copies them."""


class InferenceSpec(Model):
    """What the user asks for, in the words of Run:ai's REST schema, with our few additions."""

    project: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """The project: a namespace with a quota (ours; REST has projectId beside the spec)."""
    serving: Literal["auto", "knative", "kserve", "kserve-standard"] | None = None
    """Which kind of object serves (ours). Default auto."""
    image: Text | None = None
    """The container's image. Needed unless ``model`` is given."""
    image_pull_policy: Literal["Always", "Never", "IfNotPresent"] | None = None
    """When the image is pulled. Default: Always for ``:latest`` or no tag, else IfNotPresent. Knative looks a tag up
    once for each revision."""
    image_pull_secrets: list[PullSecret] = nothing()
    """Secrets for pulling the image."""
    command: Words | None = None
    """The program, instead of the image's."""
    args: Words | None = None
    """The program's arguments."""
    working_dir: Text | None = None
    """The folder the program starts in."""
    create_home_dir: bool = False
    """Run:ai's home folder for the user; refused when true."""
    environment_variables: list[Variable] = nothing()
    """The program's environment."""
    probes: Probes = Probes()
    """When a replica is ready, alive, started."""
    model: ServedModel | None = None
    """A model to serve by a runtime instead of an own image (ours)."""
    compute: Compute = Compute()
    """What one replica gets."""
    autoscaling: Autoscaling = Autoscaling()
    """How many replicas."""
    serving_port: ServingPort = ServingPort()
    """The port and who may use it."""
    serving_configuration: ServingConfiguration = ServingConfiguration()
    """Time-outs."""
    slo: Slo | None = None
    """The promise (ours)."""
    traffic: Traffic = Traffic()
    """How a new revision takes over (ours)."""
    priority_class: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Which workloads go first: train, build-preemptible, build, inference, or very-low to very-high."""
    preemptibility: Literal["preemptible", "non-preemptible", "semi-preemptible"] | None = None
    """Whether a more important workload may take the GPUs back."""
    node_pools: list[Text] = nothing()
    """Node pools in order of preference."""
    node_type: Text | None = None
    """The nodes' type label."""
    node_affinity_required: NodeAffinity | None = None
    """Conditions that the node must meet."""
    pod_affinity: PodAffinity | None = None
    """Keep the replicas together."""
    pod_anti_affinity: PodAffinity | None = None
    """Keep the replicas apart (ours)."""
    tolerations: list[Toleration] = nothing()
    """Taints that the replicas put up with."""
    storage: Storage = Storage()
    """What is mounted."""
    security: Security = Security()
    """Who the container runs as."""
    labels: list[Named] = nothing()
    """Labels of the pods; a change makes a new revision."""
    annotations: list[Named] = nothing()
    """Annotations of the pods; a change makes a new revision."""
    category: Label | None = None
    """Run:ai's workload category, kept as a label of the object."""
    exposed_urls: list[ExposedUrl] = nothing()
    """Host names of the user's own."""
    ports: list[ExposedPort] = nothing()
    """Further ports."""
    related_urls: list[RelatedUrl] = nothing()
    """Links shown beside the workload."""
    patches: list[Patch] = nothing()
    """Merge patches on the objects made (ours): what import found no word for."""


class Inference(Model):
    """One inference workload."""

    api_version: Literal["ebbtide.dev/v1alpha1"]
    """ebbtide.dev/v1alpha1."""
    kind: Literal["Inference"]
    """Inference."""
    metadata: Metadata
    """Its name."""
    spec: InferenceSpec
    """What it asks for."""
