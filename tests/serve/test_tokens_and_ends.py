"""A service that needs a token; how services start, refuse to start, and end."""

import signal
import socket
import time

import pytest

from helpers.commands import refused
from helpers.sentences import write_jsonl
from helpers.served import serving
from influcoder.errors import ConfigError
from influcoder.serve.settings import ServeSettings

TOKEN = "a-secret-that-nobody-guesses"
ASKED = {"prompt": "What is the capital of France?", "completion": "Paris"}


@pytest.fixture(scope="module")
def guarded(made, tmp_path_factory):
    """A service with a token, a short time-out and saved questions, that hears every address."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(TOKEN + "\n")
    write_jsonl(folder / "questions.jsonl", [{"id": "capital", **ASKED}])
    words = ("--index", made / "index", "--host", "0.0.0.0", "--token-file", folder / "token", "--request-timeout", 2)
    more = (
        "--queries",
        folder / "questions.jsonl",
        "--allowed-host",
        "explorer.example",
        "--state-dir",
        folder / "state",
    )
    with serving(*words, *more) as running:
        yield running.process, running.http


def bearer(token):
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("token", ["wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ü"])
def test_without_the_token_nothing_is_told(guarded, token):
    _, http = guarded
    for path in ("/api/v1/rows", "/api/v1/provenance", "/api/v1/openapi.json", "/", "/nowhere"):
        answer = http.get(path, headers={"authorization": f"Bearer {token}".encode()})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert http.get("/healthz").status_code == 200


def test_with_it_all_is(guarded):
    _, http = guarded
    assert http.get("/api/v1/provenance", headers=bearer(TOKEN)).json()["rows"] == 60
    found = http.post("/api/v1/search", json={"query": "capital"}, headers=bearer(TOKEN)).json()
    assert found["question"]["completion"] == "Paris"


def test_a_browser_logs_in_once(guarded):
    _, http = guarded
    page = {"accept": "text/html", "sec-fetch-site": "none", "sec-fetch-mode": "navigate"}
    sent = http.get("/", headers=page)
    assert (sent.status_code, sent.headers["location"]) == (303, "/login")
    assert "Token" in http.get("/login", headers=page).text
    wrong = http.post("/login", data={"token": "wrong"})
    assert wrong.status_code == 401
    assert not http.cookies
    form = {"origin": "null", "sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}
    right = http.post("/login", data={"token": TOKEN}, headers=form)
    assert right.status_code == 303
    kept = right.headers["set-cookie"]
    assert all(part in kept for part in ("HttpOnly", "SameSite=strict"))
    assert TOKEN not in kept
    assert http.get("/", headers=page).status_code == 200
    crossed = http.post("/api/v1/search", json=ASKED, headers={"origin": "https://evil.example"})
    assert crossed.status_code == 403
    http.cookies.clear()
    forged = http.get("/api/v1/rows", headers={"cookie": "influcoder=" + "0" * 64})
    assert forged.status_code == 401


def test_the_token_does_not_let_other_names_in(guarded):
    _, http = guarded
    for host, status in (("explorer.example", 200), ("192.168.0.7:80", 200), ("evil.example", 421)):
        answer = http.get("/api/v1/provenance", headers=bearer(TOKEN) | {"host": host})
        assert answer.status_code == status


def test_a_body_that_does_not_come_is_not_waited_for(guarded):
    _, http = guarded
    began = time.monotonic()
    with socket.create_connection((http.base_url.host, http.base_url.port), timeout=30) as connection:
        connection.sendall(
            b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
            b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n{"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 15


def test_other_addresses_need_a_token(call, made):
    for host in ("0.0.0.0", "::", "192.168.0.7", "box.example"):
        refused(call("serve", "--index", made / "index", "--host", host), f"--host {host}", "Give --token-file")
    assert ServeSettings(made, host="127.0.0.2").token is None


@pytest.mark.parametrize("token", ["", "short", "two lines\nof a token that is long", "a token with spaces in it"])
def test_a_token_that_could_be_guessed_is_refused(call, made, tmp_path, token):
    (tmp_path / "token").write_text(token)
    refused(call("serve", "--index", made / "index", "--token-file", tmp_path / "token"), "secrets.token_urlsafe")


def test_settings_that_are_none_are_refused(made):
    with pytest.raises(ConfigError, match="--port is 70000"):
        ServeSettings(made, port=70000)
    with pytest.raises(ConfigError, match="--request-timeout is 0"):
        ServeSettings(made, request_timeout=0)


def test_a_port_in_use_is_told(call, made):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(call("serve", "--index", made / "index", "--port", port), f"--port {port}: cannot listen there")


def test_what_is_no_index_is_told(call, tmp_path):
    refused(call("serve", "--index", tmp_path, "--port", 0), "not a store")


def test_a_decoder_that_cannot_be_loaded_ends_it(call, made, tmp_path):
    (tmp_path / "empty").mkdir()
    words = ("--decoder", tmp_path / "empty", "--port", 0, "--state-dir", tmp_path / "state")
    status, out, err = call("serve", "--index", made / "index", *words)
    assert status == 1
    assert out.startswith("The explorer is at http://127.0.0.1:")
    assert str(tmp_path / "empty") in err.splitlines()[-1]


def test_what_was_marked_survives_sigkill_and_restart(guarded, made):
    """A mark is answered and the process is killed at once; the next one finds it, and is then told to stop."""
    killed, http = guarded
    http.headers.update(bearer(TOKEN))
    selection = http.post("/api/v1/selections", json={"name": "by hand"}).json()
    place = f"/api/v1/selections/{selection['id']}"
    for row in range(20):
        assert http.post(f"{place}/marks", json={"mark": "drop", "rows": [row]}).status_code == 200
    saved = http.post("/api/v1/queries", json=ASKED).json()
    killed.kill()
    killed.communicate()
    state = killed.args[killed.args.index("--state-dir") + 1]
    with serving("--index", made / "index", "--decoder", made / "decoder", "--state-dir", state) as running:
        assert running.http.get(place).json()["counts"]["drop"] == 20
        assert saved in running.get("queries").json()
        assert running.post("search", {"query": saved["id"], "k": 1}).json()["question"]["completion"] == "Paris"
        assert running.http.post(f"{place}/undo").json()["counts"]["drop"] == 19
        finishes_what_is_under_way(running)


def finishes_what_is_under_way(running):
    job = running.post("verify", ASKED | {"verify": 30, "certify": 30}).json()
    with running.http.stream("GET", f"/api/v1/jobs/{job['id']}/events") as stream:
        lines = stream.iter_lines()
        next(lines)
        running.process.send_signal(signal.SIGTERM)
        assert list(lines)
    _, err = running.process.communicate(timeout=60)
    assert running.process.returncode == 143
    assert err.splitlines()[-1] == "error: stopped. Run the same command again."
    assert "Traceback" not in err
