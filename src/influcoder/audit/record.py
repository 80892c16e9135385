"""An audit as it is written, signed, and checked by somebody else.

audit.json   what was found, and the SHA-256 of every file of the chain
audit.html   the same for a reader
audit.sig    on request, an ed25519 signature of audit.json, in hex
"""

import os
from pathlib import Path
from typing import Any

from influcoder.errors import ConfigError, StoreCorrupt
from influcoder.extras import optional
from influcoder.store.files import atomic_write, read_sealed, sha256, write_sealed

RECORD, SIGNATURE = "audit.json", "audit.sig"
FORMAT = 1


def write_audit(found: dict[str, Any], folder: Path, key: Path | None = None) -> None:
    """Write audit.json, and its signature if there is a key.

    Args:
        key: a private ed25519 key as PEM without a password, as `openssl genpkey -algorithm ed25519` writes.

    Raises:
        ConfigError: the key cannot be used.
        MissingDependency: cryptography is not installed.
    """
    private = None if key is None else _private(key)
    parts = [one | {"path": os.path.relpath(one["path"], folder)} for one in found["parts"]]  # both may be moved
    write_sealed(folder / RECORD, {"format": FORMAT, **found, "parts": parts})
    if private is not None:
        atomic_write(folder / SIGNATURE, private.sign((folder / RECORD).read_bytes()).hex().encode() + b"\n")


def read_audit(folder: Path, key: Path | None = None) -> dict[str, Any]:
    """What an audit found, once it is sure that nobody changed it.

    Args:
        key: the public key of whoever signed it, as PEM: then the signature is checked.

    Raises:
        StoreCorrupt: it was changed, or not signed with that key.
        ConfigError: the key cannot be used.
    """
    found = read_sealed(folder / RECORD, FORMAT)
    if key is None:
        return found
    public, exceptions = _public(key), optional("cryptography.exceptions")
    try:
        public.verify(bytes.fromhex((folder / SIGNATURE).read_text().strip()), (folder / RECORD).read_bytes())
    except (OSError, ValueError, exceptions.InvalidSignature) as error:
        raise StoreCorrupt(
            f"{folder / SIGNATURE}: missing, or not a signature of {RECORD} by the owner of {key}. Ask for the audit "
            "again."
        ) from error
    return found


def changes_since(found: dict[str, Any], folder: Path) -> list[str]:
    """Each file that is not as it was when an audit was made, a sentence a file.

    Args:
        folder: of the audit; the run is found by its place from there.
    """
    lines = []
    for part in found["parts"]:
        path = folder / part["path"]
        for name, expected in part["files"].items():
            if not (path / name).is_file():
                lines.append(f"{path / name}: missing.")
            elif sha256(path / name) != expected:
                lines.append(f"{path / name}: its bytes are not those that were audited.")
    return lines


def _private(path: Path) -> Any:
    serialization = optional("cryptography.hazmat.primitives.serialization")
    return _key(path, lambda data: serialization.load_pem_private_key(data, None), "sign")


def _public(path: Path) -> Any:
    serialization = optional("cryptography.hazmat.primitives.serialization")
    return _key(path, serialization.load_pem_public_key, "verify")


def _key(path: Path, load: Any, verb: str) -> Any:
    ed25519 = optional("cryptography.hazmat.primitives.asymmetric.ed25519")
    kinds = (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey)
    try:
        key = load(path.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        key = None
        reason = str(error)
    else:
        reason = f"it is {type(key).__name__}"
    if not isinstance(key, kinds):
        what = "a private" if verb == "sign" else "a public"
        raise ConfigError(
            f"{path}: not {what} ed25519 key as PEM without a password ({reason}). Make one with: openssl genpkey "
            "-algorithm ed25519 -out KEY; its public half with: openssl pkey -in KEY -pubout -out PUB."
        )
    return key
