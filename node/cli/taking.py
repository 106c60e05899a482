"""What `consilium records import` does once the files are checked. FHIR's models take a second to import: only that
command imports this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consilium.ledger.errors import Refused
from consilium.node.cli.custody import custodians
from consilium.node.cli.inputs import Target, connected
from consilium.node.cli.output import Report
from consilium.node.intake import Accounts, BundleFile, Intake, Taken
from consilium.node.intake_journal import JOURNAL_FILE, IntakeJournal


async def import_files(
    report: Report,
    node: Target,
    accounts: Accounts,
    checked: Sequence[BundleFile],
    targets: Sequence[Target],
    named: bool,
    again: bool,
) -> list[Taken]:
    """Import checked files one after the other, once all are known to be importable.

    Raises Refused with the file's name, and how many were imported before it.
    """
    institution = node.institution()
    folder = node.config.folder if node.config is not None else Path()
    taken: list[Taken] = []
    async with connected(node) as (rpc, genesis), custodians(targets, named=named) as known:
        others = [one for one in known if one.institution != institution.identity]
        intake = Intake(
            rpc,
            genesis,
            institution,
            accounts,
            IntakeJournal(folder / JOURNAL_FILE),
            others={one.institution: one.rpc for one in others},
            vaults=[one.rpc for one in others if one.takes_envelopes],
        )
        for file in checked:  # all of them before the first is imported
            try:
                await intake.require_importable(file, again=again)
            except Refused as refusal:
                raise Refused(refusal.code, f"{file.path}: {said(refusal)}") from None
        for file in checked:
            with report.progress(file.path.name) as progress:
                try:
                    taken.append(await intake.take(file, progress))
                except Refused as refusal:
                    about = "" if refusal.code.startswith("wallet.") else f"{file.path}: "
                    told = f"{about}{said(refusal)} Files imported before: {len(taken)}."
                    raise Refused(refusal.code, told) from None
    return taken


def said(refusal: Refused) -> str:
    """A refusal's detail or cause as a sentence."""
    told = refusal.words
    return told if told.endswith((".", "!", "?")) else f"{told}."


def unserved_note(taken: Taken) -> str:
    """What is left to do where custodians have no share yet."""
    named = ", ".join(custodian.hex() for custodian in taken.unserved)
    return (
        f"{taken.path.name}: its sensitive records open only once further custodians have their shares: {named}. "
        "Give them theirs from the patient's wallet: consilium keys deliver"
    )


def taken_value(taken: Taken) -> dict[str, Any]:
    """An imported file in JSON."""
    done = taken.imported
    return {
        "file": str(taken.path),
        "patient": done.patient.hex(),
        "bundle": done.bundle.hex(),
        "compartment": done.compartment.hex(),
        "compartments": [compartment.hex() for compartment in done.compartments],
        "sensitive": taken.sensitive,
        "unserved": [custodian.hex() for custodian in taken.unserved],
        "records": [record.hex() for record in done.records],
        "transactions": [transaction.hex() for transaction in done.transactions],
        "height": done.height,
    }
