"""What an attacker sends, and what comes back: the rows of the table in docs/how-to/serve.md."""

import contextlib
import socket
import threading
import time

import pytest

from helpers.served import HOSTILE
from influcoder.serve.styles import STYLES_SOURCE

ASKED = {"prompt": "What is the capital of France?", "completion": "Paris"}
JSON = {"content-type": "application/json"}


def raw(served, *lines, body=b"", wait=5.0):
    """What the service answers to bytes that no client would send."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=wait) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        told = b""
        try:
            while part := connection.recv(65536):
                told += part
        except TimeoutError:
            pass
        return told.decode("utf-8", "replace")


def status(served, *lines, body=b""):
    return int(raw(served, *lines, "Connection: close", body=body).split()[1])


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil.example", ""]
)
def test_dns_rebinding_meets_the_host_header(served, host):
    """A page of evil.example whose name server answers with 127.0.0.1 sends its own name."""
    for path in ("/", "/api/v1/rows", "/healthz"):
        assert status(served, f"GET {path} HTTP/1.1", f"Host: {host}") == 421


def test_other_addresses_and_two_hosts_are_refused(served):
    assert status(served, "GET / HTTP/1.1", "Host: 192.168.0.7") == 421
    assert status(served, "GET / HTTP/1.1", "Host: localhost", "Host: evil.example") == 400


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9000", "[::1]:8765", "LOCALHOST"])
def test_this_machine_s_own_names_are_answered(served, host):
    assert status(served, "GET /healthz HTTP/1.1", f"Host: {host}") == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
@pytest.mark.parametrize("content", ["application/json", "text/plain"])
def test_another_site_s_page_changes_nothing(served, headers, content):
    """A form or a script of another site: CSRF."""
    body = b'{"prompt": "a", "completion": "b"}'
    answer = served.http.post("/api/v1/search", content=body, headers=headers | {"content-type": content})
    assert answer.status_code == 403
    assert answer.json()["type"].endswith("other_site")


def test_another_site_s_page_reads_nothing(served):
    """As a script or an image, or by fetch; there is no CORS to allow it."""
    for mode in ("no-cors", "cors", "navigate"):
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode}
        assert served.get("rows", headers=headers).status_code == 403
    answer = served.http.options("/api/v1/search", headers={"origin": "https://evil.example"})
    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_link_to_the_page_may_be_followed(served):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert served.http.get("/", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/v1/rows", "/nowhere", "/static/explorer.js", "/api/v1/rows/x"])
def test_every_answer_forbids_what_it_can(served, path):
    headers = served.http.get(path).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["style-src"] == STYLES_SOURCE  # the hash of the page's own
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == ("max-age=300" if path.startswith("/static/") else "no-store")
    assert "server" not in headers


def test_hostile_text_is_sent_as_json_alone(served):
    answer = served.get("rows/0")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["completion"] == HOSTILE


@pytest.mark.parametrize(
    "path",
    [
        "/static/../explorer.py",
        "/static/..%2fexplorer.py",
        "/static/%2e%2e/explorer.py",
        "/static/..%5cexplorer.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/api/v1/rows/..%2f..%2fetc%2fpasswd",
        "/api/v1/rows/%00",
        "/api/v1/rows/-1",
        "/api/v1/rows/60",
        "/api/v1/rows/9999999999999999999999",
        "/api/v1/jobs/..%2f..%2f",
        "/api/v1/jobs/%ff/events",
        "/../../etc/passwd",
    ],
)
def test_no_path_leads_out(served, path):
    told = raw(served, f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close")
    assert int(told.split()[1]) in (400, 404, 422)
    assert "import" not in told
    assert "root:" not in told


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b'{"prompt": "' + b"a" * 200_000 + b'", "completion": "b"}', "application/json", 422),
        (b"[" * 100_000, "application/json", 400),
        (b'{"prompt": ' * 20_000, "application/json", 400),
        (b'{"prompt": "a", "completion": "b", "k": NaN}', "application/json", 422),
        (b'{"prompt": "a", "completion": "b", "least": Infinity}', "application/json", 422),
        (b'{"prompt": "a", "completion": "b", "k": 1e99}', "application/json", 422),
        (b'{"prompt": "a", "completion": "b", "k": 1001}', "application/json", 422),
        (b'{"prompt": "a", "completion": "b", "index": "/etc"}', "application/json", 422),
        (b'{"prompt": "a", "completion": "\\ud800"}', "application/json", 422),
        (b'{"prompt": "\xff", "completion": "b"}', "application/json", 400),
        (b'{"prompt": "a", "completion": "b"}', "text/plain", 422),
        (b'{"prompt": "a", "completion": "b"}', "application/x-www-form-urlencoded", 422),
        (b"", "application/json", 422),
        (b"null", "application/json", 422),
    ],
)
def test_bodies_that_are_none_are_told_so(served, body, kind, expected):
    answer = served.http.post("/api/v1/score", content=body, headers={"content-type": kind})
    assert answer.status_code == expected, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 4000


def test_a_huge_body_is_refused_by_its_length(served):
    lines = ("POST /api/v1/search HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    assert status(served, *lines, "Content-Length: 1099511627776") == 413
    assert status(served, *lines, "Content-Length: -1") == 400


def test_a_huge_body_without_a_length_is_not_read_to_its_end(served):
    def chunks():
        for _ in range(64):
            yield b" " * 65536

    assert served.http.post("/api/v1/search", content=chunks(), headers=JSON).status_code == 413


def test_compressed_bodies_are_refused(served):
    headers = JSON | {"content-encoding": "gzip"}
    assert served.http.post("/api/v1/search", content=b"\x1f\x8b", headers=headers).status_code == 415


def test_headers_and_addresses_have_an_end(served):
    assert status(served, "GET / HTTP/1.1", "Host: localhost", "X-Long: " + "a" * 100_000) == 431
    assert status(served, "GET /" + "a" * 100_000 + " HTTP/1.1", "Host: localhost") == 431


def test_slow_loris_is_cut_off_and_others_are_served(served):
    """Connections that send a header byte by byte, and one that sends nothing."""
    idle = [socket.create_connection(("127.0.0.1", served.port), timeout=30) for _ in range(20)]
    for connection in idle[1:]:
        connection.sendall(b"GET / HTTP/1.1\r\nX-")
    began = time.monotonic()
    assert served.http.get("/healthz").status_code == 200
    while time.monotonic() - began < 30:
        try:
            idle[1].sendall(b"a")
        except OSError:
            break
        time.sleep(0.5)
    assert time.monotonic() - began < 20
    for connection in idle:
        connection.settimeout(15)
        with contextlib.suppress(ConnectionError):
            assert connection.recv(100) == b""
        connection.close()


def test_http_that_is_none_is_refused(served):
    assert "400" in raw(served, "\x16\x03\x01 TLS", wait=3).splitlines()[0]
    lines = ("GET / HTTP/1.1", "Host: localhost", "Content-Length: 3", "Transfer-Encoding: chunked")
    assert status(served, *lines, body=b"0\r\n\r\n") == 400


def test_methods_that_are_not_there(served):
    for method in ("PUT", "PATCH", "TRACE", "DELETE"):
        assert served.http.request(method, "/api/v1/search").status_code == 405


def test_a_hundred_at_once_are_all_answered(served):
    statuses = []

    def ask(number):
        body = ASKED | {"prompt": f"What is the capital of France? {number}", "k": 5}
        statuses.append(served.post("search", body).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 100


def test_clients_that_leave_are_not_waited_for(served):
    body = b'{"prompt": "a", "completion": "b"}'
    request = b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(request + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert served.post("search", ASKED).status_code == 200
