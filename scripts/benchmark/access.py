"""`scripts/bench access`: asking, deciding, releasing, opening, on a real cluster of four.

- *decisions*: requests of one compartment, many at a time, until they are certified;
- *ward round*: a clinician's institution reads the charts of many patients, one after the other, some of whom deny it;
- *chart*: one clinician reads the records of one patient, again and again;
- *path*: one record, from request to plaintext, by a custodian that runs a full node, and by one that would wait for
  the receipt and check it offline instead;
- *line*: from the plaintext to the release's line in the patient's accounting, as another node tells it;
- *partials*: what a custodian computes for a record, on one core;
- *grant*: the bytes of a consent over a patient with many records.

Reader and nodes share the machine, so every phase says how much CPU time both took.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from consilium.client import consenting, group, reading, recording, release, sealing, sharing
from consilium.client.boxes import new_box_key
from consilium.client.envelope import Context, HeaderFields, parse
from consilium.client.recording import Payload
from consilium.client.session import Session, new_id, slices
from consilium.client.wallet import Wallet
from consilium.contracts import access, accounting, records
from consilium.ledger import codec
from consilium.ledger.crypto import SigningKey
from consilium.ledger.receipt import verify_receipt
from consilium.node.testing import LocalCluster
from scripts.benchmark import ceiling
from scripts.benchmark.probe import glance
from scripts.benchmark.report import given
from scripts.benchmark.rounds import at
from scripts.benchmark.workload import bundle_of

PURPOSE: Final = "TREAT"
HOME: Final = 0
READER: Final = 1
WITNESS: Final = 2
IMPORTS_AT_ONCE: Final = 4
RECORD_BYTES: Final = 1_200
"""About the median of a FHIR resource."""
PARTIALS: Final = 300
HOUR_MS: Final = 3_600_000
HEADER: Final = HeaderFields("Observation", "bench", "application/fhir+json")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Chart:
    """A patient's session, records and general compartment, and whether the reader may read them."""

    owner: Session
    records: tuple[bytes, ...]
    compartment: bytes
    allowed: bool


async def run(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """The whole command."""
    async with LocalCluster(4) as cluster, aiohttp.ClientSession() as http:
        meter = _Meter(cluster, http)
        found: dict[str, Any] = {"verifies_per_s": ceiling.measure().verifies_per_s}
        progress(f"{options.patients} patients, {options.records} records each")
        found["setup"] = await meter.of(lambda: _admit_all(cluster, options))
        charts = meter.result
        found["decisions"] = await meter.of(lambda: _decisions(cluster, charts, options))
        progress("ward round")
        found["ward"] = await meter.of(lambda: _ward(cluster, charts))
        allowed = next(chart for chart in charts if chart.allowed)
        progress("one chart")
        found["chart"] = await meter.of(lambda: _chart(cluster, allowed, options))
        progress("one record")
        found["path"] = await meter.of(lambda: _path(cluster, allowed, options))
        found["line"] = await meter.of(lambda: _line(cluster, allowed, options))
        progress("a grant over a long chart")
        found["grant"] = await meter.of(lambda: _grant(cluster, options))
    found["partials"] = _partials()
    return {
        "options": given(options),
        "median": found,
    }


class _Meter:
    """Runs phases, and adds wall time and CPU time of the four nodes and of this process to what they found."""

    def __init__(self, cluster: LocalCluster, http: aiohttp.ClientSession) -> None:
        self._cluster = cluster
        self._http = http
        self.result: Any = None

    async def of(self, phase: Callable[[], Awaitable[tuple[dict[str, Any], Any]]]) -> dict[str, Any]:
        nodes = list(range(self._cluster.size))
        before = await glance(self._cluster, self._http, nodes)
        figures, self.result = await phase()
        after = await glance(self._cluster, self._http, nodes)
        return {
            **figures,
            "seconds": after.at_s - before.at_s,
            "nodes_cpu_s": sum(after.cpu_s.values()) - sum(before.cpu_s.values()),
            "custodian_cpu_s": after.cpu_s[HOME] - before.cpu_s[HOME],
            "reader_cpu_s": after.own_cpu_s - before.own_cpu_s,
        }


def _latency(took_s: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(took_s)
    return {
        "count": len(ordered),
        **{f"p{name}_ms": _ms(at(ordered, fraction)) for name, fraction in (("50", 0.5), ("95", 0.95))},
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


# --- people and records ---------------------------------------------------------------------------------------------


async def _admit_all(
    cluster: LocalCluster, options: argparse.Namespace
) -> tuple[dict[str, Any], list[Chart]]:
    room = asyncio.Semaphore(IMPORTS_AT_ONCE)
    denied = round(options.patients * options.denied)

    async def one(number: int) -> Chart:
        async with room:
            return await _admit(cluster, options.records, allowed=number >= denied)

    charts = await asyncio.gather(*(one(number) for number in range(options.patients)))
    last = await cluster.commit(HOME)
    await cluster.wait_height(last.height + 1)
    return {"patients": len(charts), "records": sum(len(chart.records) for chart in charts)}, list(charts)


async def _admit(cluster: LocalCluster, count: int, *, allowed: bool) -> Chart:
    owner = await _patient(cluster)
    payloads = [Payload(os.urandom(RECORD_BYTES // 2).hex().encode(), HEADER) for _ in range(count)]
    imported = await recording.import_records(cluster.session(HOME), owner.identity, payloads)
    if allowed:
        await _permit(owner, cluster.session(READER).identity)
    return Chart(owner, imported.records, imported.compartment, allowed)


async def _patient(cluster: LocalCluster) -> Session:
    home, patient = cluster.session(HOME), Wallet.create("patient")
    await recording.enrol(home, "patient", patient)
    owner = cluster.session(HOME, patient)
    await recording.open_compartments(owner, patient, home.identity, lambda kept: None)
    return owner


async def _permit(owner: Session, reader: bytes) -> int:
    """Consent for treatment. Returns the bytes of the signed transaction."""
    now_ms = int(time.time() * 1000)
    _, committed = await consenting.grant(
        owner, reader, [PURPOSE], not_before_ms=now_ms - HOUR_MS, not_after_ms=now_ms + 24 * HOUR_MS
    )
    proved = await owner.rpc.wait(committed.id, certified=True)
    receipt = await owner.rpc.transaction_receipt(proved.id)
    transaction = verify_receipt(receipt, owner.genesis).transaction
    if transaction is None:
        raise RuntimeError("a transaction's receipt holds no transaction")
    return len(codec.encode(transaction))


# --- phases ---------------------------------------------------------------------------------------------------------


async def _decisions(
    cluster: LocalCluster, charts: Sequence[Chart], options: argparse.Namespace
) -> tuple[dict[str, Any], None]:
    """Requests per second, closed loop; then verdicts per second, as many compartments as a request may name."""
    took: list[float] = []
    end = time.perf_counter() + options.seconds

    async def ask(place: int) -> None:
        session = cluster.session(place % cluster.size)
        while time.perf_counter() < end:
            begun = time.perf_counter()
            chart = charts[len(took) % len(charts)]
            await reading.request(session, PURPOSE, compartments=[chart.compartment])
            took.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(ask(place) for place in range(options.clients)))
    alone_s = time.perf_counter() - begun
    named = [chart.compartment for chart in charts][: access.COMPARTMENTS_PER_REQUEST_MAX]
    begun, rounds = time.perf_counter(), 0
    while time.perf_counter() - begun < options.seconds / 2 or not rounds:
        sessions = (cluster.session(index) for index in range(cluster.size))
        await asyncio.gather(*(reading.request(one, PURPOSE, compartments=named) for one in sessions))
        rounds += 1
    many_s = time.perf_counter() - begun
    return {
        "requests_per_s": len(took) / alone_s,
        "request_to_certified": _latency(took),
        "verdicts_per_s_many_to_a_request": rounds * cluster.size * len(named) / many_s,
    }, None


async def _read(
    session: Session, custodian: Any, ids: Sequence[bytes], *, certified: bool = True
) -> tuple[reading.Asked, int]:
    """Ask for one slice, and open what is allowed. Returns how many records came out."""
    asked = await reading.request(session, PURPOSE, record_ids=ids, certified=certified)
    if not any(verdict.allow for verdict in asked.decision.verdicts):
        return asked, 0
    return asked, len(await reading.fetch(session, asked, custodian))


async def _ward(cluster: LocalCluster, charts: Sequence[Chart]) -> tuple[dict[str, Any], None]:
    """Chart after chart, in slices of as many records as a request may name."""
    session, custodian = cluster.session(READER), cluster.clients[HOME]
    slices_s: list[float] = []
    charts_s: list[float] = []
    opened = denied = 0
    for chart in charts:
        chart_begun = time.perf_counter()
        for start in range(0, len(chart.records), access.RECORDS_PER_REQUEST_MAX):
            begun = time.perf_counter()
            part = chart.records[start : start + access.RECORDS_PER_REQUEST_MAX]
            _, count = await _read(session, custodian, part)
            opened, denied = opened + count, denied + len(part) - count
            if count:
                slices_s.append(time.perf_counter() - begun)
        if chart.allowed:
            charts_s.append(time.perf_counter() - chart_begun)
    return {
        "records_opened": opened,
        "records_denied": denied,
        "records_per_s": opened / sum(slices_s) if slices_s else None,
        "slice_to_plaintext": _latency(slices_s),
        "chart_to_plaintext": _latency(charts_s),
    }, None


async def _chart(
    cluster: LocalCluster, chart: Chart, options: argparse.Namespace
) -> tuple[dict[str, Any], None]:
    session, custodian = cluster.session(READER), cluster.clients[HOME]
    took: list[float] = []
    for _ in range(options.repeats):
        begun = time.perf_counter()
        parts = [
            chart.records[start : start + access.RECORDS_PER_REQUEST_MAX]
            for start in range(0, len(chart.records), access.RECORDS_PER_REQUEST_MAX)
        ]
        await asyncio.gather(*(_read(session, custodian, part) for part in parts))
        took.append(time.perf_counter() - begun)
    return {"records": len(chart.records), "request_to_plaintext": _latency(took)}, None


async def _path(
    cluster: LocalCluster, chart: Chart, options: argparse.Namespace
) -> tuple[dict[str, Any], None]:
    """One record at a time. The second kind is what a custodian without a node would wait for before its release."""
    session, custodian = cluster.session(READER), cluster.clients[HOME]
    full: list[float] = []
    receipt: list[float] = []
    decided: list[float] = []
    for _ in range(options.repeats * 2):
        begun = time.perf_counter()
        asked = await reading.request(session, PURPOSE, record_ids=chart.records[:1], certified=False)
        decided.append(time.perf_counter() - begun)
        await reading.fetch(session, asked, custodian)
        full.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        asked = await reading.request(session, PURPOSE, record_ids=chart.records[:1])
        proof = await session.rpc.verdict_receipt(asked.transaction)
        verify_receipt(proof, cluster.genesis)
        await reading.fetch(session, asked, custodian)
        receipt.append(time.perf_counter() - begun)
    return {
        "request_to_decided": _latency(decided),
        "full_node_to_plaintext": _latency(full),
        "receipt_then_plaintext": _latency(receipt),
    }, None


async def _line(
    cluster: LocalCluster, chart: Chart, options: argparse.Namespace
) -> tuple[dict[str, Any], None]:
    """From the plaintext at the reader to the line of its release, told by a third node."""
    session, custodian = cluster.session(READER), cluster.clients[HOME]
    told: asyncio.Queue[tuple[bytes, float]] = asyncio.Queue(maxsize=4_096)
    listening = asyncio.create_task(_listen(cluster, chart.owner.identity, told))
    took: list[float] = []
    try:
        for _ in range(options.repeats):
            asked, _ = await _read(session, custodian, chart.records[:1])
            read_s = time.perf_counter()
            while True:
                request, at_s = await asyncio.wait_for(told.get(), 60)
                if request == asked.transaction:
                    break
            took.append(max(0.0, at_s - read_s))
    finally:
        listening.cancel()
    return {"plaintext_to_line": _latency(took)}, None


async def _listen(cluster: LocalCluster, patient: bytes, told: asyncio.Queue[tuple[bytes, float]]) -> None:
    stream = cluster.clients[WITNESS].subscribe(None, [accounting.RELEASED.name], patient)
    async for item in stream:
        for line in accounting.lines_of(item.event):
            if isinstance(line.content, accounting.Released):
                await told.put((line.content.request, time.perf_counter()))


async def _grant(cluster: LocalCluster, options: argparse.Namespace) -> tuple[dict[str, Any], None]:
    """A long chart is anchored (of one envelope, again and again: a grant does not look at records), then granted."""
    owner, home = await _patient(cluster), cluster.session(HOME)
    imported = await recording.import_records(home, owner.identity, [Payload(b"{}", HEADER)])
    await home.rpc.wait(imported.transactions[-1], certified=True)
    known = await home.state(records.RECORDS, imported.records[0])
    if known is None:
        raise RuntimeError("a record that was just anchored is not there")
    left = options.long_chart - 1
    while left > 0:
        count = min(left, records.BUNDLE_RECORDS_MAX)
        ids = [new_id() for _ in range(count)]
        anchors = bundle_of(ids, imported.compartment, anchor=known.anchor, envelope=known.envelope)
        for part in slices(anchors):
            await home.submit(part)
        left -= count
    begun = time.perf_counter()
    size = await _permit(owner, cluster.session(READER).identity)
    granted_s = time.perf_counter() - begun
    begun = time.perf_counter()
    asked = await reading.request(cluster.session(READER), PURPOSE, compartments=[imported.compartment])
    if not asked.allowed:
        raise RuntimeError("the grant does not permit")
    return {
        "records": options.long_chart,
        "transactions": 1,
        "transaction_bytes": size,
        "grant_to_certified_ms": granted_s * 1e3,
        "request_to_certified_ms": (time.perf_counter() - begun) * 1e3,
    }, None


def _partials() -> dict[str, float]:
    """What a custodian computes for one record, and what it takes to check it, in CPU time of one core."""
    secret = sharing.make_compartment(1, 1)
    key = sharing.CompartmentKey(os.urandom(32), new_id(), 0, secret.commitments)
    context = Context(key.chain_id, new_id(), key.compartment, 0, new_id())
    author = sealing.AuthorKeys(SigningKey(os.urandom(32)), group.multiply_base(group.random_scalar()))
    sealed = sealing.seal(bytes(RECORD_BYTES), context, key.point, author, (new_box_key().public,), HEADER)
    head = parse(sealed.envelope).head
    parcel = sharing.ShareParcel(1, key, secret.shares[0])
    begun = time.thread_time()
    made = [release.make_partial(parcel, head, context) for _ in range(PARTIALS)]
    made_s = time.thread_time() - begun
    begun = time.thread_time()
    for one in made:
        release.partial_is_sound(one, head, context, key)
    checked_s = time.thread_time() - begun
    return {
        "made_per_s_and_core": PARTIALS / made_s,
        "made_us": made_s / PARTIALS * 1e6,
        "checked_us": checked_s / PARTIALS * 1e6,
    }
