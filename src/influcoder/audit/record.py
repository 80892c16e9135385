"""An audit as it is written, signed, and checked by somebody else.

audit.json   the findings, and the SHA-256 of every file of the chain
audit.html   the same for a reader
audit.sig    on request, an ed25519 signature of audit.json, in hex
"""

import os
from pathlib import Path
from typing import Any, Literal

from influcoder.errors import ConfigError, StoreCorrupt
from influcoder.extras import optional
from influcoder.store.files import atomic_write, read_sealed, sha256, write_sealed

RECORD, SIGNATURE = "audit.json", "audit.sig"
FORMAT = 1


def write_audit(record: dict[str, Any], folder: Path, key: Path | None = None) -> None:
    """Write audit.json, and its signature if there is a key.

    Args:
        key: a private ed25519 key as PEM without a password, as `openssl genpkey -algorithm ed25519` writes.

    Raises:
        ConfigError: the key cannot be used.
        MissingDependency: cryptography is not installed.
    """
    private = None if key is None else _load_key(key, "private")
    # Relative paths, so that run and audit may be moved together.
    parts = [part | {"path": os.path.relpath(part["path"], folder)} for part in record["parts"]]
    write_sealed(folder / RECORD, {"format": FORMAT, **record, "parts": parts})
    if private is not None:
        atomic_write(folder / SIGNATURE, private.sign((folder / RECORD).read_bytes()).hex().encode() + b"\n")


def read_audit(folder: Path, key: Path | None = None) -> dict[str, Any]:
    """The record of an audit, after checking that nobody changed it.

    Args:
        key: the signer's public key as PEM: then the signature is checked.

    Raises:
        StoreCorrupt: it was changed, or not signed with that key.
        ConfigError: the key cannot be used.
    """
    record = read_sealed(folder / RECORD, FORMAT)
    if key is None:
        return record
    public, exceptions = _load_key(key, "public"), optional("cryptography.exceptions")
    try:
        public.verify(bytes.fromhex((folder / SIGNATURE).read_text().strip()), (folder / RECORD).read_bytes())
    except (OSError, ValueError, exceptions.InvalidSignature) as error:
        raise StoreCorrupt(
            f"{folder / SIGNATURE}: missing, or not a signature of {RECORD} by the owner of {key}. Ask for the audit "
            "again."
        ) from error
    return record


def changes_since(record: dict[str, Any], folder: Path) -> list[str]:
    """Each file that changed since an audit was made, one sentence per file.

    Args:
        folder: of the audit, which the recorded paths are relative to.
    """
    lines = []
    for part in record["parts"]:
        path = folder / part["path"]
        for name, expected in part["files"].items():
            if not (path / name).is_file():
                lines.append(f"{path / name}: missing.")
            elif sha256(path / name) != expected:
                lines.append(f"{path / name}: its bytes are not those that were audited.")
    return lines


def _load_key(path: Path, kind: Literal["private", "public"]) -> Any:
    serialization = optional("cryptography.hazmat.primitives.serialization")
    ed25519 = optional("cryptography.hazmat.primitives.asymmetric.ed25519")
    try:
        data = path.read_bytes()
        if kind == "private":
            key = serialization.load_pem_private_key(data, None)
        else:
            key = serialization.load_pem_public_key(data)
        reason = f"it is {type(key).__name__}"
    except (OSError, ValueError, TypeError) as error:
        key, reason = None, str(error)
    if not isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey):
        raise ConfigError(
            f"{path}: not a {kind} ed25519 key as PEM without a password ({reason}). Make one with: openssl genpkey "
            "-algorithm ed25519 -out KEY; its public half with: openssl pkey -in KEY -pubout -out PUB."
        )
    return key
