"""Single acts of the demonstration (`_demo`): access log, accounting, erasure with its certificate, search of files."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from consilium.client import disclosures, erasing
from consilium.client.erasure_certificate import Certified, verify_certificate
from consilium.client.rpc import BEFORE_ALL, RpcClient
from consilium.client.session import Session
from consilium.contracts import accounting
from consilium.ledger import codec
from consilium.ledger.execution import EVENT_BYTES_MAX
from consilium.ledger.genesis import genesis_from_json, genesis_to_json
from scripts._demo_tally import DemoFailed
from scripts.canaries import files_below, find, forms_of, needles_of, words_in

ATTEST_TIMEOUT_S = 90.0
ATTEST_POLL_S = 0.5
EVENTS_PER_PAGE = 100
WORDS_EACH = 4
WORDS_MAX = 24


async def forget(owner: Session, say: Callable[[str], None]) -> Certified:
    """Erase everything of the session's patient, wait until every holder has attested, verify the certificate with
    the genesis file alone. Raises TimeoutError."""
    verdict, _ = await erasing.request(owner, "consent-withdrawn")
    say(
        f"  the ledger decides: {verdict.outcome}; {len(verdict.holders)} institutions must destroy what they have"
    )
    async with asyncio.timeout(ATTEST_TIMEOUT_S):
        while not (await erasing.status(owner, verdict.erasure)).complete:  # noqa: ASYNC110
            await asyncio.sleep(ATTEST_POLL_S)
    raw = await erasing.certificate(owner, verdict.erasure)
    genesis = genesis_from_json(genesis_to_json(owner.genesis))
    proved = await asyncio.to_thread(verify_certificate, raw, genesis)
    say(
        f"  all {len(proved.attested)} have attested; the certificate ({len(raw)} bytes) verifies offline, and names "
        f"{len(proved.recipients)} past reader(s) to tell"
    )
    return proved


async def account(owner: Session, say: Callable[[str], None]) -> int:
    """Ask whom the records of the session's patient went to, and check offline that no line is missing. Returns how
    many lines there are."""
    found = await disclosures.consult(owner, owner.identity)
    genesis = genesis_from_json(genesis_to_json(owner.genesis))
    proved = await asyncio.to_thread(disclosures.verify, found.to_json(), genesis)
    kinds = [type(line.content) for line in proved.lines]
    say(
        f"  {proved.head.lines} lines, none missing: {kinds.count(accounting.Decided)} verdicts, "
        f"{kinds.count(accounting.Released)} releases that custodians attested, "
        f"{kinds.count(accounting.Consulted)} time(s) that somebody asked for this"
    )
    return int(proved.head.lines)


def search(bundles: Sequence[bytes], folders: Sequence[Path], say: Callable[[str], None]) -> int:
    """Search every byte that the nodes keep for names, addresses and numbers of people. Returns for how many.

    Raises DemoFailed where one is found.
    """
    # A few of each, the rarest first: names of towns and hospitals stand in many bundles.
    rare = Counter(word for raw in bundles for word in words_in(raw))
    words = [word for raw in bundles for word in sorted(words_in(raw), key=lambda w: rare[w])[:WORDS_EACH]]
    needles = needles_of((), words[:WORDS_MAX])
    for seen in find(folders, needles):
        raise DemoFailed(f"{seen.file} holds, at {seen.offset}, {seen.form}")
    size = sum(path.stat().st_size for path in files_below(folders))
    say(
        f"{len(words[:WORDS_MAX])} names, addresses and numbers from the bundles, in {len(forms_of(''))} encodings: "
        f"none stands in the {size / 1e6:.0f} MB of files that the nodes keep."
    )
    return len(words[:WORDS_MAX])


async def access_log(client: RpcClient, patient: bytes) -> list[bool]:
    """The verdicts on a patient, one for each decided request, oldest first."""
    verdicts: list[bool] = []
    after = BEFORE_ALL
    while page := await client.events(after, EVENTS_PER_PAGE, ["access.decided"], patient):
        after = page[-1].cursor
        for item in page:
            data = codec.decode(item.event.data, accounting.AccessDecided, EVENT_BYTES_MAX)
            verdicts.append(all(line.allow for line in data.lines))
    return verdicts
