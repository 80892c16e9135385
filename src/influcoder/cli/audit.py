"""The verb for a reviewer."""

import sys
from pathlib import Path

from influcoder.cli.flags import NO_TRUST, Flag, Trust
from influcoder.cli.output import print_json


def audit(
    run: Path,
    *,
    decoder: Path | None = None,
    adapter: str | None = None,
    trust: Trust = NO_TRUST,
    output_dir: Path | None = None,
    overwrite: Flag = False,
    sign: Path | None = None,
    verify_key: Path | None = None,
    json: Flag = False,
) -> None:
    """Follow a run by its hashes, from decoder to proof, and say what can and cannot be concluded from it.

    Exit code 0: every part is there, whole, and made from the one before it; 1: not, and what is wrong is named.

    Args:
        run: a folder that holds features, encoder, index, selection, proof; or one of them; or an earlier audit, whose
            files are then compared with those that are there now
        decoder: the decoder that the features were made with, where the run does not say where it is
        adapter: its LoRA adapter, if it had one
        output_dir: write audit.json and audit.html there
        overwrite: empty that folder first
        sign: a private ed25519 key (PEM): sign audit.json
        verify_key: the public key of whoever signed an earlier audit
        json: print what was found as JSON
    """
    from influcoder.audit.record import RECORD
    from influcoder.errors import ConfigError
    from influcoder.report.audit_page import print_audit

    if sign is not None and output_dir is None:
        raise ConfigError("--sign signs the audit that is written: give --output-dir as well.")
    if (run / RECORD).exists():
        if sign or output_dir or decoder:
            raise ConfigError(f"{run}: an earlier audit is checked, not made: leave all flags but --verify-key out.")
        found = _again(run, verify_key)
    elif verify_key is not None:
        raise ConfigError(f"{run}: no {RECORD} in it, so there is nothing signed. Give the folder of an audit.")
    else:
        found = _audit(run, decoder, adapter, output_dir, overwrite, sign)
    if json:
        print_json(found)
    else:
        print_audit(found)
    if found["verdict"] != "verified":
        sys.exit(1)


def _audit(
    run: Path,
    decoder: Path | None,
    adapter: str | None,
    output_dir: Path | None,
    overwrite: bool,
    sign: Path | None,
) -> dict[str, object]:
    from influcoder.audit.chain import audit as follow
    from influcoder.audit.parts import find_parts
    from influcoder.audit.record import write_audit
    from influcoder.report.audit_page import write_page
    from influcoder.store.output_folder import Folder

    decoder = decoder or _packaged(run)
    if output_dir is None:
        return follow(run, decoder=decoder, adapter=adapter)
    read = tuple(part.path for part in find_parts(run, decoder, adapter))
    with Folder(output_dir, overwrite=overwrite, inputs=read).claim():
        found = follow(run, decoder=decoder, adapter=adapter)
        write_audit(found, output_dir, sign)
        write_page(found, output_dir)
    return found


def _again(folder: Path, verify_key: Path | None) -> dict[str, object]:
    """An earlier audit, and what has changed since."""
    from influcoder.audit.record import SIGNATURE, changes_since, read_audit

    found = read_audit(folder, verify_key)
    changed = changes_since(found, folder)
    signed = (folder / SIGNATURE).exists()
    found["signature"] = "verified" if verify_key else "not checked: give --verify-key" if signed else "none"
    found["changed_since"] = changed
    if changed:
        found["verdict"] = "broken"
    return found


def _packaged(run: Path) -> Path | None:
    """The decoder of the demo, which comes with this package."""
    from influcoder.audit.parts import read_config
    from influcoder.demo.world import assets

    return assets() / "decoder" if read_config(run).get("verb") == "demo" else None
