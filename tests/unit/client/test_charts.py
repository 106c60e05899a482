"""Reading in slices: each decided on its own; what does not open is named, and keeps no other back."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from consilium.client import charts, reading
from consilium.client.reading import Asked, Fetched, Opened, Withheld
from consilium.contracts.access import Decision, Verdict
from consilium.ledger.errors import Refused

IDS = [number.to_bytes(16, "big") for number in range(600)]


class Custody:
    """Decides and releases as a test wants: `releases_max` records at a time, none of `denied`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[int] = []
        self.compartments_asked = 0
        self.askers: list[tuple[bytes | None, bool]] = []
        self.releases_max = 1_000
        self.denied: frozenset[bytes] = frozenset()
        self.broken: dict[bytes, str] = {}
        """Records that cannot be opened, with the code that a custodian or the reader's own check gives for them."""
        monkeypatch.setattr(reading, "request", self._request)
        monkeypatch.setattr(reading, "collect", self._collect)

    async def _request(
        self,
        session: Any,
        purpose: str,
        *,
        record_ids: Sequence[bytes] | None = None,
        compartments: Sequence[bytes] | None = None,
        application: bytes | None = None,
        automated: bool = False,
    ) -> Asked:
        self.askers.append((application, automated))
        named = list(record_ids or [])
        self.asked.append(len(named))
        self.compartments_asked += len(compartments or [])
        allow = not self.denied & {*named} and bool(named)
        verdict = Verdict(
            patient=bytes(16),
            compartment=bytes(16),
            also=[],
            epoch=0,
            records=named or None,
            allow=allow,
            basis="consent",
            ground=None,
            obligations=[],
            valid_until=0,
        )
        decision = Decision(1, bytes(16), None, bytes(32), purpose, 0, bytes(32), [verdict])
        return Asked(bytes(32), 1, decision, None)  # type: ignore[arg-type]

    async def _collect(self, session: Any, asked: Asked, custodian: Any) -> Fetched:
        named = asked.decision.verdicts[0].records or []
        if len(named) > self.releases_max:
            raise Refused("custodian.release_too_large")
        for record in named:
            if self.broken.get(record, "").startswith("whole "):
                raise Refused(self.broken[record].removeprefix("whole "), record.hex())
        opened = [Opened(record, record, None) for record in named if record not in self.broken]  # type: ignore[arg-type]
        withheld = [
            Withheld(0, record, Refused(self.broken[record])) for record in named if record in self.broken
        ]
        return Fetched(tuple(opened), tuple(withheld))


@pytest.fixture
def custody(monkeypatch: pytest.MonkeyPatch) -> Custody:
    return Custody(monkeypatch)


async def _read(ids: Sequence[bytes]) -> list[bytes]:
    return [
        opened.record
        async for slice_ in charts.read_records(None, None, "TREAT", ids)  # type: ignore[arg-type]
        for opened in slice_.opened
    ]


async def test_many_records_are_asked_for_in_slices(custody: Custody) -> None:
    assert await _read(IDS) == IDS
    assert custody.asked == [256, 256, 88]


async def test_every_slice_says_who_asks(custody: Custody) -> None:
    asker = charts.Asker(bytes(16), automated=True)
    async for _ in charts.read_records(None, None, "TREAT", IDS, asker):  # type: ignore[arg-type]
        pass
    assert custody.askers == [(bytes(16), True)] * 3
    await _read(IDS[:1])
    assert custody.askers[-1] == (None, False)


async def test_a_slice_that_is_too_large_is_halved(custody: Custody) -> None:
    custody.releases_max = 100
    assert await _read(IDS[:256]) == IDS[:256]
    assert custody.asked == [256, 128, 64, 64, 128, 64, 64]


async def test_a_record_that_is_too_large_alone_is_refused(custody: Custody) -> None:
    custody.releases_max = 0
    with pytest.raises(Refused, match=r"custodian\.release_too_large"):
        await _read(IDS[:3])


@pytest.mark.parametrize(
    "code",
    ["vault.unknown", "vault.damaged", "access.consent_ended", "custodian.no_share", "sealing.bad_proof"],
)
async def test_a_record_that_cannot_be_opened_does_not_close_the_chart(custody: Custody, code: str) -> None:
    """Any author may anchor a digest of nothing in a patient's compartment."""
    custody.broken = {IDS[7]: code, IDS[300]: code}
    slices: list[charts.Slice] = []

    async def keep() -> None:
        async for slice_ in charts.read_records(None, None, "TREAT", IDS):  # type: ignore[arg-type]
            slices.append(slice_)

    with pytest.raises(Refused, match=f"{IDS[300].hex()}, one of 2") as refused:
        await keep()
    assert refused.value.code == code
    assert custody.asked == [256, 256, 88]
    assert [opened.record for one in slices for opened in one.opened] == [
        record for record in IDS if record not in custody.broken
    ]
    withheld = [[(item.record, item.refusal.code) for item in one.withheld] for one in slices]
    assert withheld == [[(IDS[7], code)], [(IDS[300], code)], []]


async def test_a_denial_does_not_hide_what_was_withheld_before(custody: Custody) -> None:
    custody.broken, custody.denied = {IDS[7]: "vault.unknown"}, frozenset({IDS[300]})
    with pytest.raises(Refused, match=IDS[7].hex()):
        await _read(IDS)


async def test_a_custodian_that_opens_nothing_is_given_up(custody: Custody) -> None:
    many = [number.to_bytes(16, "big") for number in range(256 * 6)]
    custody.broken = dict.fromkeys(many, "sealing.damaged")
    with pytest.raises(Refused, match=r"sealing\.damaged"):
        await _read(many)
    assert len(custody.asked) == charts.WITHHELD_SLICES_MAX


@pytest.mark.parametrize("code", ["custodian.stale", "access.not_allowed", "rpc.timeout"])
async def test_what_is_no_records_fault_is_not_asked_again(custody: Custody, code: str) -> None:
    custody.broken = {IDS[7]: f"whole {code}"}
    with pytest.raises(Refused, match=code):
        await _read(IDS)
    assert custody.asked == [256]


async def test_a_slice_that_is_denied_does_not_end_the_ward_round(custody: Custody) -> None:
    custody.denied = frozenset({IDS[300]})
    assert await _read(IDS) == IDS[:256] + IDS[512:]
    assert custody.asked == [256, 256, 88]


async def test_a_patient_without_records_is_asked_about_nevertheless(
    custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(rpc: Any, subject: bytes) -> list[Any]:
        return []

    async def state(slot: Any, *parts: bytes) -> Any:
        return SimpleNamespace(compartments=[bytes(16)])

    monkeypatch.setattr(charts, "records_of", none)
    session: Any = SimpleNamespace(rpc=None, state=state)
    slices = [one async for one in charts.read_patient(session, None, "TREAT", bytes(16))]  # type: ignore[arg-type]
    assert len(slices) == 1
    assert custody.compartments_asked == 1
