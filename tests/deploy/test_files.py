"""The files of `deploy/` that nothing here can run are judged by the tools that read them."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from proxy.cli import main
from proxy.config import Config
from tests.conftest import REPOSITORY, missing
from tests.support.client import ask, stream_target
from tests.support.clips import make_clip
from tests.support.deployed import DEPLOY, with_addresses
from tests.support.origin import Origin
from tests.support.served import running
from tests.support.streams import publish

UNIT = (DEPLOY / "remuxd.service").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
KUBERNETES = ("1.34", "1.37")  # the first in which `sleep` is for everybody, and the newest known
DRAIN_S = Config().server.drain_s
EXPOSURE = "20"  # of 100: systemd calls less than 20 "OK", and 96 what nobody has hardened


def tool(name: str) -> str:
    """A program, where Python's are or elsewhere."""
    found = shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)
    if found is None:
        missing(name)
        raise AssertionError  # `missing` has ended the test
    return found


def judged(*command: str) -> None:
    """Run a judge, who says nothing and has no objection."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def containers() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each remuxd of the manifests: the name of its workload, the pod, the container."""
    found = []
    for manifest in MANIFESTS:
        if manifest["kind"] == "Deployment":
            pod = manifest["spec"]["template"]["spec"]
            every = (*pod.get("initContainers", ()), *pod["containers"])
            found += [(manifest["metadata"]["name"], pod, one) for one in every]
    return [one for one in found if one[2]["name"] == "remuxd"]


# -- commands --------------------------------------------------------------------------------------


def commands() -> list[list[str]]:
    """Every command line of remuxd in the files."""
    lines = [re.search(r"^ExecStart=(.+)$", UNIT, re.MULTILINE)[1].split()]  # type: ignore[index]
    lines += [re.findall(r'"([^"]+)"', line) for line in re.findall(r"CMD (\[.+\])", DOCKERFILE)]
    lines.append(COMPOSE["services"]["remuxd"]["healthcheck"]["test"][1:])
    for _, _, container in containers():
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            if "exec" in container.get(name, ()):
                lines.append(container[name]["exec"]["command"])
    return [line[1:] if line[0].endswith("remuxd") else line for line in lines]


def test_commands_exist() -> None:
    """What a file starts is a command that is there, with options that are."""
    assert len(commands()) >= 6
    for name, *options in commands():
        known = {flag for option in main.commands[name].params for flag in option.opts}
        assert {option for option in options if option.startswith("-")} <= known, name


# -- systemd ---------------------------------------------------------------------------------------


def unit_with_a_program(folder: Path) -> str:
    """The unit, with a program that is on this machine."""
    changes = {"/opt/remuxd/bin/remuxd serve": f"{sys.executable} -m proxy serve"}
    file = folder / "remuxd.service"
    file.write_text(with_addresses(UNIT, changes))
    return str(file)


def test_unit_is_understood(tmp_path: Path) -> None:
    """systemd knows every key and value of it."""
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", unit_with_a_program(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "remuxd.service" not in done.stderr  # other units of the machine are not ours
    assert done.returncode == 0


def test_unit_is_hardened(tmp_path: Path) -> None:
    """systemd finds little that the service could still do."""
    judged(
        tool("systemd-analyze"), "security", "--offline=yes", "--no-pager",
        f"--threshold={EXPOSURE}", unit_with_a_program(tmp_path),
    )  # fmt: skip


def test_unit_lets_streams_end() -> None:
    """It waits for longer than `server.drain_s`, and does not try a bad configuration again."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT)
    service = unit["Service"]
    assert int(service["TimeoutStopSec"].removesuffix("s")) > DRAIN_S
    assert service["RestartPreventExitStatus"] == "78"


async def test_stream_without_writable_code() -> None:
    """MemoryDenyWriteExecute= takes nothing that a stream needs."""
    async with Origin() as origin:
        target = stream_target(publish(origin, make_clip()))
        async with running("tests.support.no_writable_code", "serve", "--port", "0") as run:
            address = (await run.until_said("listening on")).rpartition(" ")[2]
            reply = await ask(address, target)
    assert (reply.status, reply.ended) == (200, "complete")


# -- containers ------------------------------------------------------------------------------------


def test_dockerfile_has_nothing_to_object_to() -> None:
    """hadolint finds nothing, and ignores nothing."""
    judged(tool("hadolint"), "--no-color", str(DEPLOY / "Dockerfile"))
    assert "hadolint ignore" not in DOCKERFILE


def test_dockerfile_that_is_careless_is_noticed(tmp_path: Path) -> None:
    """The linter is able to object."""
    file = tmp_path / "Dockerfile"
    file.write_text("FROM python:latest\nRUN cd / && pip install remuxd\n")
    assert subprocess.run([tool("hadolint"), file], capture_output=True, check=False).returncode


def test_dockerfile_needs_neither_root_nor_shell() -> None:
    """The user has a number, and what is started when it runs is no line for a shell."""
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", last, re.MULTILINE)
    for word in ("ENTRYPOINT", r"HEALTHCHECK .+ CMD", "CMD"):
        assert re.search(rf"^{word} \[\"", last, re.MULTILINE), word
    assert "RUN" not in last


def test_image_has_what_the_package_needs() -> None:
    """What is copied is there, and what the build of the package reads is copied."""
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert names == {
        "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "proxy",
    }  # fmt: skip
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text()
    for name in names:
        assert (REPOSITORY / name).exists()
        assert f"\n!{name}\n" in let_in


def test_compose_file_is_one() -> None:
    """It fits the schema of the Compose Specification."""
    judged(
        sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec",
        str(DEPLOY / "compose.yaml"),
    )  # fmt: skip


def test_compose_service_may_little() -> None:
    """No root, no writable root, no capabilities, and time to end."""
    service = COMPOSE["services"]["remuxd"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not str(service["user"]).startswith("0")
    assert int(service["stop_grace_period"].removesuffix("s")) > DRAIN_S
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


# -- proxies in front, for what no test can wait for -----------------------------------------------


def test_fronts_let_streams_last() -> None:
    """A stream has no time limit, and silence is left for remuxd to judge."""
    idle_s = Config().limits.idle_client_s
    envoy: dict[str, Any] = yaml.safe_load((DEPLOY / "envoy.yaml").read_text())
    (listener,) = envoy["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (*_, to_remuxd) = manager["route_config"]["virtual_hosts"][0]["routes"]
    assert to_remuxd["route"]["timeout"] == "0s"
    assert float(manager["stream_idle_timeout"].removesuffix("s")) > idle_s
    nginx = (DEPLOY / "nginx.conf").read_text()
    for directive in ("proxy_read_timeout", "send_timeout"):
        (minutes,) = re.findall(rf"^  {directive} (\d+)m;$", nginx, re.MULTILINE)
        assert int(minutes) * 60 > idle_s


# -- Kubernetes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_fit_the_schema(version: str) -> None:
    """Kubernetes knows every key of every object."""
    for manifest in MANIFESTS:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_manifest_with_a_wrong_key_is_noticed() -> None:
    """The judge is able to object."""
    spoilt = {**MANIFESTS[0], "dada": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoilt, KUBERNETES[0], strict=True)


def test_manifests_have_remuxd_alone_and_beside_an_application() -> None:
    """Both ways are shown; the one beside an application goes on when it has started."""
    (_, _, alone), (_, _, beside) = containers()
    assert alone["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert alone["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert beside["restartPolicy"] == "Always"


@pytest.mark.parametrize("number", [0, 1])
def test_container_may_little_and_has_time_to_end(number: int) -> None:
    """No root, no writable root, bounded memory; SIGTERM comes late, and the kill later."""
    _, pod, container = containers()[number]
    rights = {**pod["securityContext"], **container["securityContext"]}
    assert rights["runAsNonRoot"]
    assert rights["runAsUser"] > 0
    assert rights["readOnlyRootFilesystem"]
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert "memory" in container["resources"]["limits"]
    waits_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > waits_s + DRAIN_S


def test_config_map_is_a_configuration(tmp_path: Path) -> None:
    """What the manifests configure would start, and keeps the time that the pods give it."""
    (text,) = [one["data"]["config.toml"] for one in MANIFESTS if one["kind"] == "ConfigMap"]
    file = tmp_path / "config.toml"
    file.write_text(text)
    config = Config.load(file)
    config.check_may_serve()
    assert config.server.drain_s == DRAIN_S
    assert config.app_routes()
