"""The Dockerfile and compose.yaml: read, and their steps run in a fresh virtual environment, without a container."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

import httpx2
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
    made = re.search(r"\.venv/torch:.*?(?=\ncheck:)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.DOTALL)[0]
    steps = [part.replace("$$", "$").replace('""', '"') for part in re.findall(r"pip install (.*)", made)]
    ours = [part.strip() for line in of("RUN") for part in re.findall(r"pip install ([^&]*)", line)]
    assert [re.sub(r" --editable \.", " .", step) for step in steps] == ours


def test_it_runs_without_rights_and_writes_its_state_alone():
    after = LINES[LINES.index("FROM python:3.11-slim") :]
    assert after.index("USER 10001") < next(n for n, line in enumerate(after) if line.startswith("ENTRYPOINT"))
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


def test_its_steps_in_a_fresh_environment(made, tmp_path):
    """What is copied is installed as it stands there, and answers as the image would be asked whether it is healthy.

    Its requirements are those that are installed here: `make install` has made them by the same steps.
    """
    source, fresh = tmp_path / "source", tmp_path / "venv"
    source.mkdir()
    for line in of("COPY"):
        for name in [] if "--from" in line else line.split()[:-1]:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, source / name)
    venv.create(fresh, symlinks=True)
    python = fresh / "bin/python"
    place = Path(sysconfig.get_path("purelib", vars={"base": str(fresh)}))
    (place / "requirements.pth").write_text(sysconfig.get_path("purelib"))
    install = re.search(r"pip (install .*) \.$", next(line for line in of("RUN") if line.endswith(" .")))[1].split()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "INFLUCODER"))}
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install, source], check=True, env=clean)
    shutil.rmtree(source)
    (tmp_path / "token").write_text("a-token-of-some-length")
    places = {"/state": "state", "/run/secrets/token": "token", "8765": "0", "/index": made / "index"}
    command = [str(places.get(word, word)) for word in words(of("ENTRYPOINT")[0]) + words(of("CMD")[0])]
    environment = clean | {"PATH": f"{fresh / 'bin'}:{clean['PATH']}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command[0] = str(fresh / "bin" / command[0])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    try:
        port = re.search(r":(\d+)", process.stdout.readline())[1]
        asked = [word.replace("8765", port) for word in words(of("HEALTHCHECK")[0].partition("CMD ")[2])]
        end = time.monotonic() + 90
        while subprocess.run([python, *asked[1:]], capture_output=True, env=clean).returncode:
            assert time.monotonic() < end
            time.sleep(0.5)
        url, known = f"http://127.0.0.1:{port}", {"Authorization": "Bearer a-token-of-some-length"}
        with httpx2.Client(base_url=url, trust_env=False, timeout=60) as http:
            assert http.get("/api/v1/provenance").status_code == 401
            assert http.get("/api/v1/provenance", headers=known).json()["rows"] == 60
            for path in ("/", "/static/explorer.js", "/static/htmx.min.js"):
                assert http.get(path, headers=known).status_code == 200, path
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "token", "venv"]
