"""The Dockerfile and compose.yaml, read: no container engine is needed, or at hand."""

import re
from pathlib import Path

import yaml

from influcoder.cli import app

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = [line for line in re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines() if line and not line.startswith("#")]
FLAGS = {name for one in app["serve"].assemble_argument_collection() for name in one.names}


def of(word):
    return [line.removeprefix(f"{word} ") for line in LINES if line.startswith(f"{word} ")]


def words(line):
    return re.findall(r'"([^"]*)"', line)


def test_two_stages_of_a_slim_image_of_one_version():
    assert of("FROM") == ["python:3.11-slim AS install", "python:3.11-slim"]
    assert "latest" not in DOCKERFILE


def test_it_installs_as_make_install_does():
    made = re.search(r"\.venv/installed:.*?(?=\n\S)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.DOTALL)[0]
    steps = [part.replace("$$", "$").replace('""', '"') for part in re.findall(r"pip install (.*)", made)]
    ours = [part.strip() for line in of("RUN") for part in re.findall(r"pip install ([^&]*)", line)]
    assert [re.sub(r" --editable \.", " .", step) for step in steps] == ours


def test_it_runs_without_rights_and_writes_its_state_alone():
    after = LINES[LINES.index("FROM python:3.11-slim") :]
    assert after.index("USER influcoder") < next(n for n, line in enumerate(after) if line.startswith("ENTRYPOINT"))
    assert of("VOLUME") == ["/state"]
    assert "--uid 10001" in DOCKERFILE


def test_it_starts_what_there_is_and_asks_whether_it_is_ready():
    started = words(of("ENTRYPOINT")[0]) + words(of("CMD")[0])
    assert started[:2] == ["influcoder", "serve"]
    assert {word for word in started if word.startswith("--")} <= FLAGS
    assert "--token-file" in started
    assert "/readyz" in of("HEALTHCHECK")[0]


def test_what_is_copied_is_sent_to_the_builder():
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for line in of("COPY") if "--from" not in line for name in line.split()[:-1]}
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)


def test_compose_starts_it_for_this_machine_alone_and_read_only():
    composed = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    service = composed["services"]["explorer"]
    assert service["ports"] == ["127.0.0.1:8765:8765"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {word.partition("=")[0] for word in service["command"]} <= FLAGS
    mounts = {mount.split(":")[1]: mount for mount in service["volumes"]}
    assert mounts["/index"].endswith(":ro")
    assert set(composed["secrets"]) == {"token"}
