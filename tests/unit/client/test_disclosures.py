"""The accounting as its readers get it: whole or refused, provable offline, and the same in every form."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest

from consilium.client import accounting_export, classes, consenting, disclosures, reading
from consilium.client.disclosures import Accounting, Entry
from consilium.client.rpc import BEFORE_ALL, AccountingRow, Cursor
from consilium.client.session import Session
from consilium.contracts import accounting, records
from consilium.contracts.accounting import Consulted, Decided, Line, Opened, Released
from consilium.contracts.registry import operation
from consilium.contracts.representation import Appoint
from consilium.ledger.errors import Refused
from consilium.node.attesting import Attesting
from tests.unit.node.care import Ward, ward
from tests.unit.node.test_attesting import clerk_of


@pytest.fixture
async def care() -> AsyncIterator[Ward]:
    async with ward() as made:
        await made.admit_petra()
        yield made


async def permit(care: Ward) -> None:
    now_ms = care.node.clock.wall_ms
    await consenting.grant(
        care.patient,
        care.south.identity,
        ["TREAT"],
        not_before_ms=now_ms - 1,
        not_after_ms=now_ms + 86_400_000,
    )


async def history(care: Ward) -> reading.Asked:
    """South is denied, then allowed, and reads; North attests."""
    imported = await care.import_notes(2)
    await reading.request(care.south, "TREAT", record_ids=imported.records)
    await permit(care)
    asked = await reading.request(care.south, "TREAT", record_ids=imported.records, automated=True)
    await reading.fetch(care.south, asked, care.rpc)  # type: ignore[arg-type]
    assert await Attesting(care.journal, clerk_of(care), lambda: 0).tell()
    return asked


async def class_map(care: Ward) -> classes.ClassMap:
    opened = await care.patient.state(records.PATIENTS, care.petra.identity)
    assert opened is not None
    found = {one: await care.patient.state(records.COMPARTMENTS, one) for one in opened.compartments}
    known = {one: value for one, value in found.items() if value is not None}
    return classes.class_map_of(care.harness.chain_id, care.petra, known)


async def consult(care: Ward, who: Session | None = None, credential: bytes | None = None) -> Accounting:
    return await disclosures.consult(who or care.patient, care.petra.identity, credential)


# --- asking ---------------------------------------------------------------------------------------------------------


async def test_the_patient_sees_everything_in_order(care: Ward) -> None:
    asked = await history(care)
    found = await disclosures.consult(care.patient, care.petra.identity, class_map=await class_map(care))
    kinds = [type(line.content) for line in found.lines]
    assert kinds == [Decided, Decided, Released, Consulted]
    denied, allowed, released, consulted = (line.content for line in found.lines)
    assert isinstance(denied, Decided)
    assert isinstance(allowed, Decided)
    assert isinstance(released, Released)
    assert isinstance(consulted, Consulted)
    assert (denied.allow, denied.automated, allowed.allow, allowed.automated) == (False, False, True, True)
    assert (released.request, released.custodian, released.records) == (
        asked.transaction,
        care.north.identity,
        2,
    )
    assert (consulted.reader, consulted.basis) == (care.petra.identity, "patient")
    assert found.head.lines == 4
    assert set(found.categories.values()) == {"general"}
    assert [entry.height for entry in found.entries] == sorted(entry.height or 0 for entry in found.entries)
    again = await consult(care)
    assert again.entries[:4] == found.entries
    assert again.head.lines == 5


async def test_it_comes_in_pages_and_other_events_do_not_matter(
    care: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    await history(care)
    monkeypatch.setattr(disclosures, "LINES_PER_CALL", 1)
    assert (await consult(care)).head.lines == 4


async def test_nobody_else_gets_it_and_the_attempt_is_a_line(care: Ward) -> None:
    await history(care)
    for who in (care.north, care.south, care.west):
        with pytest.raises(Refused, match=r"accounting\.denied"):
            await consult(care, who)
    lines = (await consult(care)).lines
    asked = [line.content for line in lines if isinstance(line.content, Consulted)]
    assert [(one.reader, one.allow) for one in asked] == [
        (care.north.identity, False),
        (care.south.identity, False),
        (care.west.identity, False),
        (care.petra.identity, True),
    ]


async def test_a_representative_sees_the_general_class_and_the_digests_of_the_rest(care: Ward) -> None:
    await history(care)
    opened = await care.patient.state(records.PATIENTS, care.petra.identity)
    assert opened is not None
    await reading.request(care.south, "TREAT", compartments=opened.compartments)
    year_ms = care.node.clock.wall_ms + 365 * 86_400_000
    appoint = Appoint(care.petra.identity, care.west.identity, "delegate", year_ms, 0, None)
    await care.patient.submit([operation("representation.appoint", appoint)])
    found = await consult(care, care.west)
    hidden = [entry for entry in found.entries if entry.line is None]
    assert len(hidden) == len(opened.compartments) - 1
    places = {one for line in found.lines for one in accounting.compartments_of(line)}
    assert len(places) == 1
    assert found.head.lines == 3 + len(opened.compartments) + 1
    # Offline, the digests stand in for what is hidden.
    assert disclosures.verify(found.to_json(), care.harness.genesis).entries == tuple(
        Entry(one.number, one.digest, one.line) for one in found.entries
    )
    rows = list(csv.DictReader(io.StringIO(accounting_export.to_csv(found).decode())))
    assert [row["kind"] for row in rows if not row["time"]] == ["withheld"] * len(hidden)


# --- the node is not believed ---------------------------------------------------------------------------------------

Rows = list[AccountingRow]


def dropped(rows: Rows) -> Rows:
    return rows[:1] + rows[2:]


def renumbered(rows: Rows) -> Rows:
    return [AccountingRow(n, row.height, row.digest, row.line) for n, row in enumerate(dropped(rows), 1)]


def swapped(rows: Rows) -> Rows:
    return [rows[1], rows[0], *rows[2:]]


def hidden(rows: Rows) -> Rows:
    return [AccountingRow(rows[0].number, 1, bytes(32), None), *rows[1:]]


def forged(rows: Rows) -> Rows:
    assert rows[0].line is not None
    line = bytearray(rows[0].line)
    line[-1] ^= 1
    return [AccountingRow(rows[0].number, 1, rows[0].digest, bytes(line)), *rows[1:]]


def cut(rows: Rows) -> Rows:
    return rows[:2]


@pytest.mark.parametrize("lie", [dropped, renumbered, swapped, hidden, forged, cut])
async def test_a_node_that_leaves_out_or_changes_a_line_is_found_out(
    care: Ward, monkeypatch: pytest.MonkeyPatch, lie: Callable[[Rows], Rows]
) -> None:
    await history(care)
    honest = care.rpc.accounting

    async def lying(*given: Any) -> tuple[Rows, Cursor, bool]:
        rows, after, _ = await honest(*given)
        return lie(rows), after, False

    monkeypatch.setattr(care.rpc, "accounting", lying)
    with pytest.raises(Refused) as refused:
        await consult(care)
    assert refused.value.code in ("accounting.broken", "codec.malformed", "codec.not_canonical")


async def test_a_receipt_of_another_patient_proves_nothing(
    care: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    await history(care)
    honest = care.rpc.state_receipt

    async def other(key: bytes) -> bytes:
        return await honest(accounting.HEADS.key(care.south.identity))

    monkeypatch.setattr(care.rpc, "state_receipt", other)
    with pytest.raises(Refused, match=r"accounting\.broken"):
        await consult(care)


async def test_only_the_key_that_asked_gets_an_answer_and_only_for_a_while(care: Ward) -> None:
    await history(care)
    seen: list[tuple[Any, ...]] = []
    honest = care.rpc.accounting

    async def watched(*given: Any) -> tuple[Rows, Cursor, bool]:
        seen.append(given)
        return await honest(*given)

    care.rpc.accounting = watched  # type: ignore[method-assign,assignment]
    await consult(care)
    transaction, index, signature, after, limit = seen[0]
    await honest(transaction, index, signature, after, limit)
    for change, code in (
        ((transaction, index, bytes(64), after, limit), "accounting.bad_signature"),
        ((transaction, 1, signature, after, limit), "accounting.unknown"),
        ((bytes(32), 0, signature, after, limit), "accounting.unknown"),
    ):
        with pytest.raises(Refused) as refused:
            await honest(*change)
        assert refused.value.code == code
    with pytest.raises(Refused, match=r"accounting\.denied"):
        await consult(care, care.south)
    await care.pass_time(16 * 60_000)
    with pytest.raises(Refused, match=r"access\.window_closed"):
        await honest(transaction, index, signature, after, limit)


# --- offline --------------------------------------------------------------------------------------------------------


async def exported(care: Ward) -> tuple[Accounting, bytes]:
    await history(care)
    found = await disclosures.consult(care.patient, care.petra.identity, class_map=await class_map(care))
    return found, found.to_json()


async def test_the_proof_verifies_with_the_genesis_document_alone(care: Ward) -> None:
    found, raw = await exported(care)
    proved = disclosures.verify(raw, care.harness.genesis)
    assert (proved.patient, proved.head, proved.lines) == (found.patient, found.head, found.lines)
    assert (proved.time_ms, proved.categories) == (found.time_ms, found.categories)
    assert accounting_export.to_csv(proved) == accounting_export.to_csv(found)
    assert proved.to_json() == raw


def _without(entries: list[Any], index: int) -> list[Any]:
    return entries[:index] + entries[index + 1 :]


async def test_a_proof_that_was_changed_proves_nothing(care: Ward) -> None:
    _, raw = await exported(care)
    proof = json.loads(raw)
    entries = proof["entries"]
    changes: list[dict[str, Any]] = [{"entries": _without(entries, index)} for index in range(len(entries))]
    changes += [
        {"entries": [entries[1], entries[0], *entries[2:]]},
        {"entries": [*entries, entries[-1]]},
        {"entries": [{"number": 1, "digest": "00" * 32, "line": None}, *entries[1:]]},
        {"entries": [{"number": 1, "digest": None, "line": None}, *entries[1:]]},
        {"entries": [{**entries[0], "line": "!"}, *entries[1:]]},
        {"patient": care.south.identity.hex()},
        {"patient": "zz" * 16},
        {"receipt": base64.b64encode(b"no receipt").decode()},
        {"version": 2},
        {"format": "another"},
        {"more": 1},
    ]
    for change in changes:
        with pytest.raises(Refused):
            disclosures.verify(json.dumps({**proof, **change}).encode(), care.harness.genesis)
    for text in (b"", b"{}", b"[]", b"\xff"):
        with pytest.raises(Refused, match=r"codec\.malformed"):
            disclosures.verify(text, care.harness.genesis)


async def test_a_proof_that_is_too_long_is_not_read(care: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    _, raw = await exported(care)
    monkeypatch.setattr(disclosures, "PROOF_BYTES_MAX", len(raw) - 1)
    with pytest.raises(Refused, match=r"codec\.oversized"):
        disclosures.verify(raw, care.harness.genesis)


# --- CSV and FHIR ---------------------------------------------------------------------------------------------------


def rows_of(raw: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(raw.decode(), newline="")))


async def test_a_row_of_the_csv_says_decided_and_released(care: Ward) -> None:
    found, _ = await exported(care)
    raw = accounting_export.to_csv(found, {care.south.identity: "=South, the hospital"})
    assert raw.splitlines()[0].decode() == ",".join(accounting_export.COLUMNS)
    denied, allowed, released, consulted = rows_of(raw)
    assert (denied["verdict"], denied["basis"], denied["released_by"]) == ("deny", "no-basis", "")
    assert allowed["person"] == "'=South, the hospital"
    assert (allowed["verdict"], allowed["automated"], allowed["category"], allowed["records"]) == (
        "allow",
        "automated",
        "general",
        "2",
    )
    assert (allowed["released_by"], allowed["released_records"]) == (care.north.identity.hex(), "2")
    assert allowed["released_at"] == released["released_at"] != ""
    assert (released["request"], released["verdict_index"]) == (allowed["transaction"], "0")
    assert (consulted["kind"], consulted["basis"]) == ("consulted", "patient")
    assert [row["number"] for row in rows_of(raw)] == ["1", "2", "3", "4"]
    assert [row["digest"] for row in rows_of(raw)] == [entry.digest.hex() for entry in found.entries]
    assert allowed["receipt"] == f"receipts/{allowed['transaction']}.receipt"


def test_times_have_their_milliseconds_and_zone() -> None:
    assert accounting_export.instant(1_700_000_000_007) == "2023-11-14T22:13:20.007Z"


OPENER, SECOND, HOME, GLASS = (bytes([n]) * 16 for n in (1, 2, 3, 4))


def opened_without_a_quorum() -> Accounting:
    """An accounting of one line: a summary that two persons opened."""
    content = Opened(OPENER, SECOND, HOME, GLASS, "danger-to-life", 1_700_000_000_007)
    line = Line(bytes(16), 1, bytes(32), 0, 1_700_000_100_000, content)
    digest = accounting.line_digest(line)
    head = accounting.AccountingHead(1, accounting.link(accounting.EMPTY_HEAD, digest))
    return Accounting(bytes(32), bytes(16), (Entry(1, digest, line),), head, 0, b"")


def nothing() -> Accounting:
    """An accounting without a line."""
    return Accounting(bytes(32), bytes(16), (), accounting.AccountingHead(0, bytes(32)), 0, b"")


def test_a_summary_that_was_opened_without_a_quorum_is_a_disclosure() -> None:
    found = opened_without_a_quorum()
    (row,) = rows_of(accounting_export.to_csv(found, {SECOND: "Sam"}))
    assert (row["kind"], row["person"], row["second"], row["institution"]) == (
        "opened",
        OPENER.hex(),
        "Sam",
        HOME.hex(),
    )
    assert (row["basis"], row["ground"], row["category"]) == (
        "danger-to-life",
        GLASS.hex(),
        "emergency summary",
    )
    assert (row["released_by"], row["released_at"]) == (HOME.hex(), "2023-11-14T22:13:20.007Z")


def test_an_empty_accounting_has_a_head_and_a_header_line() -> None:
    empty = nothing()
    disclosures.check_chain((), empty.head, empty.patient)
    assert len(accounting_export.to_csv(empty).splitlines()) == 1


def _twin(digests: Sequence[bytes]) -> bytes:
    head = bytes(32)
    for digest in digests:
        head = accounting.link(head, digest)
    return head


def test_digests_alone_prove_how_many_lines_there_are() -> None:
    digests = [os.urandom(32) for _ in range(5)]
    entries = [Entry(number, digest, None) for number, digest in enumerate(digests, 1)]
    head = accounting.AccountingHead(5, _twin(digests))
    disclosures.check_chain(entries, head, bytes(16))
    for wrong in (entries[:4], entries[1:], [*entries[:3], entries[4], entries[3]]):
        with pytest.raises(Refused, match=r"accounting\.broken"):
            disclosures.check_chain(wrong, head, bytes(16))
    with pytest.raises(Refused, match=r"accounting\.broken"):
        disclosures.check_chain(entries, msgspec.structs.replace(head, lines=6), bytes(16))


def test_the_first_page_begins_before_everything() -> None:
    assert str(BEFORE_ALL) == "-1.-1"
