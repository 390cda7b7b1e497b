"""The node image of kind from packages and modules: Debian, kind's own files, and the programs of the control plane.

Upstream builds its image with Docker from sources (sigs.k8s.io/kind images/base/Dockerfile and pkg/build/nodeimage). This one
has the same files from kind's module, Debian's runc, and the programs that `e2e.build` compiles. Debian 12's systemd (252) still
starts on control groups v1, and so does containerd until May 2029 (containerd RELEASES.md).
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Final

from e2e import images
from e2e.build import alone, module_folder, program, run
from e2e.components import COMPONENTS, KUBERNETES
from e2e.images import Image
from e2e.node.libraries import with_libraries
from e2e.paths import CACHE
from e2e.servers.python import debian_sources

REGISTRY: Final = "ebbtide.local/kubernetes"
"""kubeadm's imageRepository: no name of upstream's is used for these builds."""
PAUSE: Final = "ebbtide.local/kubernetes/pause:v1"
NAME: Final = "ebbtide.local/kind/node"

PACKAGES: Final = [
    "systemd",
    "systemd-sysv",
    "conntrack",
    "iptables",
    "nftables",
    "iproute2",
    "ethtool",
    "util-linux",
    "mount",
    "kmod",
    "libseccomp2",
    "pigz",
    "bash",
    "ca-certificates",
    "curl",
    "jq",
    "procps",
    "e2fsprogs",
    "socat",
    "runc",
]
"""kind's list without network file systems and FUSE, with Debian's runc."""
HOOK: Final = Path(__file__).with_name("base.sh")
FILES: Final = Path(__file__).with_name("files")
"""Files that are added to kind's own."""

UNITS: Final = ("kubelet", "containerd", "undo-mount-hacks", "node-images")
PLUGINS: Final = ("bridge", "host-local", "loopback", "portmap")
CONTAINERD: Final = ("containerd", "containerd-shim-runc-v2", "ctr")
TABLES: Final = ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")


def name() -> str:
    """Return the image's name; its tag has a digest of the inputs, so that an engine never keeps an old one."""
    return f"{NAME}:{KUBERNETES}-{_digest()}"


def archive() -> Path:
    """Return the image's archive for `docker load`, built if it is missing.

    Raises:
        BuildError: a download or a program failed.

    """
    place = CACHE / "images" / f"kind-node-{_digest()}.tar"
    with alone(place):
        if not place.exists():
            work = place.with_suffix(".work")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            _write(place, work)
            shutil.rmtree(work)
    return place


def control_plane() -> tuple[Image, ...]:
    """Return the images that kubeadm starts, and the pods' first container. kubeadm's keys are root's, so user 0."""
    kubernetes = (
        Image(f"{REGISTRY}/{name}:{KUBERNETES}", (path,), {path: program("kubernetes", name)}, user="0")
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
        for path in (f"/usr/local/bin/{name}",)
    )
    proxy = "/usr/local/bin/kube-proxy"
    return (
        *kubernetes,
        Image(
            f"{REGISTRY}/kube-proxy:{KUBERNETES}",
            (proxy,),
            {proxy: program("kubernetes", "kube-proxy"), **_tables()},
            user="0",
        ),
        Image(
            f"{REGISTRY}/etcd:{COMPONENTS['etcd'].version}",
            ("/usr/local/bin/etcd",),
            {"/usr/local/bin/etcd": program("etcd")},
            user="0",
        ),
        Image(
            f"{REGISTRY}/coredns:{COMPONENTS['coredns'].version}",
            ("/coredns",),
            {"/coredns": program("coredns")},
            user="0",
        ),
        Image(PAUSE, ("/pause",), {"/pause": program("pause")}),
    )


def base() -> Path:
    """Return the root file system as a tar: Debian with the packages of kind's base image, and that image's removals."""
    place = CACHE / "node" / f"base-{_digest_of(*PACKAGES, HOOK.read_text())}.tar"
    with alone(place):
        if not place.exists():
            partial = place.with_suffix(".partial.tar")
            run(
                *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--components=main"),
                f"--include={','.join(PACKAGES)}",
                '--aptopt=APT::Install-Recommends "false"',
                *(f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("man", "doc", "locale")),
                f'--customize-hook=sh {HOOK} "$1"',
                *("bookworm", str(partial), *debian_sources()),
            )
            partial.rename(place)
    return place


def _write(place: Path, work: Path) -> None:
    files = {
        **{f"/usr/bin/{each}": program("kubernetes", each) for each in ("kubeadm", "kubelet", "kubectl")},
        **{f"/usr/local/bin/{each}": program("containerd", each) for each in CONTAINERD},
        **{f"/opt/cni/bin/{each}": program("cni-plugins", each) for each in PLUGINS},
        "/": _configuration(work / "configuration"),
    }
    for image in control_plane():
        # `/` in a name would be a folder; the unit imports every file of this one.
        written = work / "images" / f"{image.name.rpartition('/')[2].partition(':')[0]}.tar"
        images.write(image, written)
        files[f"/kind/images/{written.name}"] = written
    node = Image(
        name(),
        ("/usr/local/bin/entrypoint", "/sbin/init"),
        files,
        root=base(),
        environment={"container": "docker"},
        user="0",
        stop_signal="SIGRTMIN+3",
    )
    images.write(node, place, compressed=False)


def _configuration(folder: Path) -> Path:
    """Write kind's own files and those of `FILES` into a folder, with the units enabled, and return it."""
    shutil.copytree(_kind_files(), folder, ignore=shutil.ignore_patterns("LICENSES", "README.txt"))
    shutil.copytree(FILES, folder, dirs_exist_ok=True)
    for place in folder.rglob("*"):
        executable = place.is_dir() or place.parent.name == "bin"
        place.chmod(0o755 if executable else 0o644)
    containerd = folder / "etc/containerd/config.toml"
    settings = containerd.read_text().replace("registry.k8s.io/pause:3.10", PAUSE)
    # A pod's first process may not lower its score where the machine is itself a sandbox; kind's entrypoint makes the same
    # change for rootless engines.
    settings = settings.replace("restrict_oom_score_adj = false", "restrict_oom_score_adj = true")
    containerd.write_text(settings)
    containerd.with_name("cri-base.json").write_text(json.dumps(_base_specification()))
    (folder / "kind/version").write_text(KUBERNETES)
    (folder / "etc/kubernetes/manifests").mkdir(parents=True)
    links = {
        **{
            f"etc/systemd/system/multi-user.target.wants/{each}.service": f"/etc/systemd/system/{each}.service"
            for each in UNITS
        },
        "etc/systemd/system/systemd-binfmt.service": "/dev/null",
        "usr/local/sbin/runc": "/usr/sbin/runc",
    }
    for link, target in links.items():
        (folder / link).parent.mkdir(parents=True, exist_ok=True)
        (folder / link).symlink_to(target)
    return folder


def _base_specification() -> dict[str, Any]:
    """Return containerd's base specification of a container, as kind's base image has it (images/base/Dockerfile)."""
    specification: dict[str, Any] = json.loads(run(str(program("containerd", "ctr")), "oci", "spec"))
    del specification["process"]["rlimits"]
    return {**specification, "hooks": {"createContainer": [{"path": "/kind/bin/mount-product-files.sh"}]}}


def _kind_files() -> Path:
    return module_folder("kind", "sigs.k8s.io/kind") / "images/base/files"


def _tables() -> dict[str, Path]:
    """Return the programs that kube-proxy calls, from this machine, with their plugins and libraries."""
    plugins = [plugin for plugin in Path("/usr/lib/x86_64-linux-gnu/xtables").glob("*.so") if not plugin.is_symlink()]
    linked = {str(plugin): plugin.resolve() for plugin in plugins[0].parent.glob("*.so")} if plugins else {}
    programs = {f"/usr/sbin/{each}": Path("/usr/sbin/xtables-nft-multi") for each in TABLES}
    return with_libraries({**programs, "/usr/sbin/conntrack": Path("/usr/sbin/conntrack"), **linked})


def _digest() -> str:
    """Return a digest of all inputs: package list, files, programs, and this code."""
    sources = [*FILES.rglob("*"), HOOK, Path(__file__), Path(images.__file__)]
    texts = [place.read_text() for place in sorted(sources) if place.is_file()]
    components = ("kubernetes", "containerd", "etcd", "coredns", "pause", "cni-plugins", "kind")
    programs = [str(program(each).parent) for each in components]
    return _digest_of(*PACKAGES, *texts, *programs)


def _digest_of(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:12]
