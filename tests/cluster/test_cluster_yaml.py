"""cluster/ and docker/ as Ray, KubeRay and Docker would read them. Nothing here starts anything."""

import fnmatch
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import jsonschema
import pytest
import yaml

from prism_ray import __version__
from prism_ray.cli import main
from prism_ray.config import load_config

ROOT = Path(__file__).resolve().parents[2]
ON_PREMISES = ROOT / "cluster" / "on-premises.yaml"
RAYJOB = ROOT / "cluster" / "kuberay" / "rayjob-digits.yaml"
CLAIM = ROOT / "cluster" / "kuberay" / "runs-claim.yaml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"
IMAGE_JOBS = "/opt/prism-ray/jobs/"

# The fields of ray.io/v1 that these objects may use, from KubeRay's Go types. The API server drops a field
# that it does not know, so a misspelt one has no effect and no error.
JOB_FIELDS = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "entrypoint", "entrypointNumCpus",
    "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata", "rayClusterSpec",
    "runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode", "submitterConfig", "submitterPodTemplate",
    "suspend", "ttlSecondsAfterFinished",
}  # fmt: skip
CLUSTER_FIELDS = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions",
    "headGroupSpec", "headServiceAnnotations", "managedBy", "rayVersion", "suspend", "workerGroupSpecs",
}  # fmt: skip
AUTOSCALER_FIELDS = {
    "env", "envFrom", "idleTimeoutSeconds", "image", "imagePullPolicy", "resources", "securityContext",
    "upscalingMode", "version", "volumeMounts",
}  # fmt: skip
HEAD_FIELDS = {"enableIngress", "headService", "rayStartParams", "serviceType", "template"}
WORKER_FIELDS = {
    "groupName", "idleTimeoutSeconds", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams",
    "replicas", "scaleStrategy", "suspend", "template",
}  # fmt: skip


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


# on-premises.yaml


def validate_launcher_config(config: dict[str, Any]) -> dict[str, Any]:
    """Do what `ray up` does with its file before it touches a machine; return the filled-in config."""
    util = pytest.importorskip("ray.autoscaler._private.util")
    prepared: dict[str, Any] = util.prepare_config(config)
    util.validate_config(prepared)
    return prepared


@pytest.fixture
def launcher_config() -> dict[str, Any]:
    config: dict[str, Any] = read_yaml(ON_PREMISES)
    return config


def test_ray_accepts_the_launcher_config(launcher_config: dict[str, Any]) -> None:
    """A file that `ray up` refuses, or that does not want every worker from the start."""
    prepared = validate_launcher_config(launcher_config)
    node_type = prepared["available_node_types"][prepared["head_node_type"]]
    assert node_type["min_workers"] == len(launcher_config["provider"]["worker_ips"])


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (None, "setup_command", ["true"]),
        (None, "head_start_ray_commands", "ray start --head"),
        ("auth", "ssh_key", "~/.ssh/key"),
        ("provider", "worker_ips", "worker-1.invalid"),
    ],
)
def test_ray_refuses_a_broken_key(
    launcher_config: dict[str, Any], section: str | None, key: str, value: object
) -> None:
    """A validation that lets everything through, so that the test above proves nothing."""
    target = launcher_config if section is None else launcher_config[section]
    target[key] = value
    with pytest.raises(jsonschema.ValidationError):
        validate_launcher_config(launcher_config)


def test_placeholders_are_no_real_machines(launcher_config: dict[str, Any]) -> None:
    """A forgotten placeholder that resolves: `ray up` would log in to somebody's machine."""
    provider = launcher_config["provider"]
    assert all(name.endswith(".invalid") for name in [provider["head_ip"], *provider["worker_ips"]])


def test_every_ray_start_has_the_same_authentication(launcher_config: dict[str, Any]) -> None:
    """A node that starts without token mode, or without the token: its raylet is refused by the head."""
    starts = [
        command
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in launcher_config[key]
        if "ray start" in command
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ray start" in command for command in starts)
    assert "~/.ray/auth_token" in launcher_config["file_mounts"]


def test_local_files_of_the_launcher_exist(launcher_config: dict[str, Any]) -> None:
    """A mount of a file that is not in the repository, or the wheel of another version."""
    mounts = launcher_config["file_mounts"]
    built = f"dist/prism_ray-{__version__}-py3-none-any.whl"
    assert built in mounts.values()
    for local in mounts.values():
        assert local == built or local.startswith("~") or (ROOT / local).exists(), local
    commands = "\n".join(launcher_config["setup_commands"])
    wheels = set(re.findall(r"\S+\.whl", commands))
    assert wheels == {remote for remote, local in mounts.items() if local == built}


# kuberay/


@pytest.fixture
def job() -> dict[str, Any]:
    document: dict[str, Any] = read_yaml(RAYJOB)
    return document


def groups(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the head group and the worker groups."""
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def containers(job: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each container with the spec of its pod."""
    for group in groups(job):
        pod = group["template"]["spec"]
        for container in pod["containers"]:
            yield container, pod


def test_the_ray_job_uses_only_fields_that_kuberay_has(job: dict[str, Any]) -> None:
    """A misspelt field such as `backOffLimit`, which Kubernetes would drop without a word."""
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"].keys() <= JOB_FIELDS
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster.keys() <= CLUSTER_FIELDS
    assert cluster["autoscalerOptions"].keys() <= AUTOSCALER_FIELDS
    head, *workers = groups(job)
    assert head.keys() <= HEAD_FIELDS
    assert all(worker.keys() <= WORKER_FIELDS for worker in workers)
    for group in groups(job):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_ray_job_meets_what_kuberay_checks(job: dict[str, Any]) -> None:
    """A name KubeRay refuses, token mode with a Ray too old for it, or a time to live that has no effect."""
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?", job["metadata"]["name"])
    assert cluster["authOptions"] == {"mode": "token"}
    assert tuple(int(part) for part in cluster["rayVersion"].split(".")) >= (2, 52, 0)
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["backoffLimit"] > 0
    assert cluster["enableInTreeAutoscaling"] is True
    for worker in cluster["workerGroupSpecs"]:
        assert 0 <= worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]


def test_ray_version_is_the_one_in_the_image(job: dict[str, Any]) -> None:
    """A `rayVersion` that goes stale when the pins move: KubeRay would build commands for another Ray."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"\nray=={job['spec']['rayClusterSpec']['rayVersion']}\n" in pins


def test_containers_are_complete(job: dict[str, Any]) -> None:
    """A container without limits, so that Ray sees the whole node, or with an image of another version."""
    names = [container["name"] for container, _ in containers(job)]
    assert names == ["ray-head", "ray-worker"]
    for container, _ in containers(job):
        assert container["image"] == f"prism-ray:{__version__}-cpu"
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


def test_every_pod_mounts_the_claim_as_the_image_user(job: dict[str, Any]) -> None:
    """A mount without a volume, a store that one pod does not see, or a volume that its user cannot write."""
    claim = read_yaml(CLAIM)
    user = final_user("cpu")
    for container, pod in containers(job):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volume = volumes[mounts["/runs"]]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        context = pod["securityContext"]
        assert f"{context['runAsUser']}:{context['fsGroup']}" == user
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_entrypoint_is_a_command_that_exists(job: dict[str, Any], tmp_path: Path) -> None:
    """A renamed option or setting, a config that is not in the image, an actor that no worker holds."""
    program, name, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert program == "prism-ray"
    command = main.commands[name]
    config = next(argument for argument in arguments if argument.startswith(IMAGE_JOBS))
    local = ROOT / "jobs" / config.removeprefix(IMAGE_JOBS)
    arguments[arguments.index(config)] = str(local)
    parameters = command.make_context(name, list(arguments)).params  # refuses an unknown option
    assert parameters["store"].startswith("/runs/")

    overrides = [value for flag, value in itertools.pairwise(arguments) if flag == "--set"]
    loaded = load_config(local, overrides, store=str(tmp_path))
    head, *workers = groups(job)
    assert head["rayStartParams"]["num-cpus"] == "0"
    orchestrate = loaded.orchestrate
    assert isinstance(orchestrate.actors, int)
    assert isinstance(orchestrate.threads_per_actor, int)
    num_places = sum(
        worker["maxReplicas"]
        * (int(container["resources"]["limits"]["cpu"]) // orchestrate.threads_per_actor)
        for worker in workers
        for container in worker["template"]["spec"]["containers"]
    )
    assert orchestrate.actors <= num_places, "an actor that no worker has room for"


# docker/


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions as (name, rest), with lines joined and comments left out."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    split = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(name, rest) for name, rest in split]


def stages() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Return for each stage what it stands on and its instructions."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    name = ""
    for instruction, rest in instructions():
        if instruction == "FROM":
            base, _, name = re.split(r"\s+", rest)
            found[name] = (base, [])
        elif name:
            found[name][1].append((instruction, rest))
    return found


def final_user(stage: str) -> str:
    """Return the last USER that holds in a stage, looked for in what it stands on if it sets none."""
    found = stages()
    user = ""
    while stage in found and not user:
        stage, steps = found[stage]
        user = next((rest for name, rest in reversed(steps) if name == "USER"), "")
    return user


def copied_from_context() -> list[str]:
    """Return the sources of every COPY that takes files from the repository."""
    return [
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]


def test_every_copied_file_exists() -> None:
    """A COPY of a file that was renamed: the build would stop there, and only with Docker at hand."""
    assert copied_from_context()
    for source in copied_from_context():
        assert (ROOT / source).exists(), source


def test_dockerignore_lets_the_copied_files_through_and_little_else() -> None:
    """A COPY source that is left out of the context, or a context with .git, .venv and the runs in it."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]

    def is_sent(path: str) -> bool:
        sent = True
        for rule in rules:
            pattern = rule.removeprefix("!")
            if fnmatch.fnmatch(path, pattern) or PurePosixPath(path).is_relative_to(pattern):
                sent = rule.startswith("!")
        return sent

    assert all(is_sent(source) for source in copied_from_context())
    assert not any(is_sent(path) for path in (".git", ".venv", "runs", "dist", "docs"))


def test_both_targets_exist_and_cpu_is_the_default() -> None:
    """A renamed target, so that the README's `--target cpu` fails; a plain build that is not for CPUs."""
    assert {"cpu", "gpu"} <= stages().keys()
    assert list(stages())[-1] == "cpu"


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_the_image_does_not_run_as_root(target: str) -> None:
    """A target that ends as root, or as a user by name, which `runAsNonRoot` cannot check."""
    user = final_user(target)
    assert re.fullmatch(r"\d+:\d+", user)
    assert not user.startswith("0:")


def test_base_images_have_a_tag_that_stays() -> None:
    """An untagged or `latest` base: the same Dockerfile would give another Python some day."""
    default = next(rest for name, rest in instructions() if name == "ARG" and rest.startswith("PYTHON_IMAGE"))
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.11[\w.-]*", default)
    assert {base for base, _ in stages().values()} == {"${PYTHON_IMAGE}", "runtime"}


def test_readme_and_dockerfile_name_this_version() -> None:
    """A tag in the instructions that is left behind when the version moves."""
    for path in (DOCKERFILE, ROOT / "docker" / "README.md", ROOT / "cluster" / "README.md", ON_PREMISES):
        text = path.read_text(encoding="utf-8")
        versions = re.findall(r"prism[-_]ray[:-](\d+\.\d+\.\d+)", text)
        assert versions, path
        assert set(versions) == {__version__}, path
