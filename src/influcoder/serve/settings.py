"""What is served, where, and to whom; and the limits of a request."""

import ipaddress
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from influcoder.errors import ConfigError

MAX_BODY = 1 << 20
"""bytes of a request's body"""
MAX_TEXT = 100_000
"""characters of a prompt or completion"""
MAX_K = 1000
"""hits of one side"""
MAX_VERIFY = 2000
"""rows that one job re-checks, its random sample included"""
MAX_TOKEN_ROWS = 50
"""rows whose tokens one request may ask for"""
MAX_MASKED = 20_000
"""kept rows whose tokens one job masks"""
MAX_PAGE = 500
"""rows of a page, or named in one request"""
MAX_BATCH = 64
"""questions of one request"""
MAX_MARKS = 10_000
"""actions that a selection is made with"""
MAX_WAITING = 128
"""requests that wait for the worker"""
MAX_JOBS = 8
"""jobs that wait for it"""
MAX_HEADERS = 16 * 1024
"""bytes of a request's address and headers"""
LEAST_TOKEN = 16
"""characters of a token that cannot be guessed"""


@dataclass(frozen=True)
class ServeSettings:
    """What is served, where, and to whom.

    Attributes:
        index: what `influcoder index` or `influcoder export` wrote.
        decoder: the one that its encoder was distilled from: a folder or hub id.
        adapter: the decoder's LoRA adapter, if any.
        checkpoints: those that the teacher took gradients from, if any.
        answers_from: the decoder that answers prompts, where it is another one.
        queries: files of questions that the page offers.
        host: the address to listen at.
        port: 0 for any that is free.
        token: every request must carry it; needed where other machines can reach the service.
        allowed_hosts: names that the service is reached by, beside this machine's own.
        request_timeout: seconds that a request may take, its body's arrival included; jobs take as long as they take.
        state_dir: where selections and saved questions are kept; a folder beside the index by default.

    Raises:
        ConfigError: an address that others can reach, without a token.
    """

    index: Path
    decoder: str | None = None
    adapter: str | None = None
    checkpoints: tuple[str, ...] = ()
    answers_from: str | None = None
    queries: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    request_timeout: float = 60.0
    state_dir: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"--port is {self.port}, expected 1 to 65535, or 0 for any that is free.")
        if not 0 < self.request_timeout < float("inf"):
            raise ConfigError(f"--request-timeout is {self.request_timeout}, expected seconds, as 60.")
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"--host {self.host}: others can reach this machine there. Give --token-file, a file with a secret of "
                f"at least {LEAST_TOKEN} characters that every request must carry; or leave --host out, and reach the "
                f"service through `ssh -L {self.port}:127.0.0.1:{self.port}`."
            )

    @property
    def state(self) -> Path:
        """The folder of selections and saved questions."""
        return self.state_dir or Path(f"{os.path.abspath(self.index)}-explorer")

    def accepts(self, host: str) -> bool:
        """Whether a Host header names this service.

        A name that an attacker's name server resolves to this machine's address is refused; a numeric address needs no
        name server.

        >>> settings = ServeSettings(Path("index"))
        >>> settings.accepts("localhost:9000"), settings.accepts("evil.example:8765")
        (True, False)
        """
        name = _name_of(host)
        if is_loopback(name):
            return True
        if self.token is None:
            return name in map(str.lower, self.allowed_hosts)
        names = {self.host, socket.gethostname(), socket.getfqdn(), *self.allowed_hosts}
        return name in map(str.lower, names) or _is_address(name)


def read_token(path: Path) -> str:
    """The secret in a file: its only line.

    Raises:
        ConfigError: it cannot be read, or is short enough to be guessed.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file {path}: cannot be read ({error}).") from error
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"--token-file {path}: expected one line of at least {LEAST_TOKEN} letters and digits. Make one with "
            f"`python -c 'import secrets; print(secrets.token_urlsafe())' > {path}`."
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine's loopback address."""
    return host.lower() == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.rpartition(":")[2].isdecimal() and ":" in host else host.lower()
