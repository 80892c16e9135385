"""The verb `audit`, for a reviewer."""

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

    Exit code 0: every part is there, complete, and made from the one before it; 1: not, and the faults are named.

    Args:
        run: a folder that holds features, encoder, index, selection, proof; or one of them; or an earlier audit, whose
            recorded hashes are then compared with the files as they are now
        decoder: the decoder that the features were made with, where the run does not say where it is
        adapter: its LoRA adapter, if it had one
        output_dir: write audit.json and audit.html there
        overwrite: empty that folder first
        sign: a private ed25519 key (PEM): sign audit.json
        verify_key: the public key of whoever signed an earlier audit
        json: print the findings as JSON
    """
    from influcoder.audit.record import RECORD
    from influcoder.errors import ConfigError
    from influcoder.report.audit_page import print_audit

    if sign is not None and output_dir is None:
        raise ConfigError("--sign signs the audit that is written: give --output-dir as well.")
    if (run / RECORD).exists():
        if sign or output_dir or decoder:
            raise ConfigError(f"{run}: an earlier audit is checked, not made: leave all flags but --verify-key out.")
        record = _check_earlier(run, verify_key)
    elif verify_key is not None:
        raise ConfigError(f"{run}: no {RECORD} in it, so there is nothing signed. Give the folder of an audit.")
    else:
        record = _make(run, decoder, adapter, output_dir, overwrite, sign)
    if json:
        print_json(record)
    else:
        print_audit(record)
    if record["verdict"] != "verified":
        sys.exit(1)


def _make(
    run: Path,
    decoder: Path | None,
    adapter: str | None,
    output_dir: Path | None,
    overwrite: bool,
    sign: Path | None,
) -> dict[str, object]:
    from influcoder.audit.chain import audit as follow
    from influcoder.audit.parts import find_parts, read_config
    from influcoder.audit.record import write_audit
    from influcoder.demo.world import assets
    from influcoder.report.audit_page import write_page
    from influcoder.store.output_folder import Folder

    if decoder is None and read_config(run).get("verb") == "demo":
        decoder = assets() / "decoder"  # comes with this package
    if output_dir is None:
        return follow(run, decoder=decoder, adapter=adapter)
    inputs = tuple(part.path for part in find_parts(run, decoder, adapter))
    with Folder(output_dir, overwrite=overwrite, inputs=inputs).claim():
        record = follow(run, decoder=decoder, adapter=adapter)
        write_audit(record, output_dir, sign)
        write_page(record, output_dir)
    return record


def _check_earlier(folder: Path, verify_key: Path | None) -> dict[str, object]:
    """The record of an earlier audit, with the changes since."""
    from influcoder.audit.record import SIGNATURE, changes_since, read_audit

    record = read_audit(folder, verify_key)
    signed = (folder / SIGNATURE).exists()
    record["signature"] = "verified" if verify_key else "not checked: give --verify-key" if signed else "none"
    record["changed_since"] = changes_since(record, folder)
    if record["changed_since"]:
        record["verdict"] = "broken"
    return record
