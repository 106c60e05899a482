"""Emergencies on real nodes: two persons, notices, reviews that come and reviews that do not, and a quorum cut off."""

from __future__ import annotations

import aiohttp
import pytest

from consilium.client import emergency, preferences, reading, shifts, summaries
from consilium.client.rpc import RpcClient
from consilium.client.rpc_emergency import alarms, deposit_summary
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts import summaries as contract
from consilium.ledger.errors import Refused
from consilium.node.testing import LocalCluster
from tests.cluster.chains import common_chain
from tests.cluster.emergencies import RECORDS, Person, admit, employ, now_ms, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

HOUR_MS = 3_600 * 1_000
WARD, HOME, REVIEWER, ISSUER = 0, 1, 2, 3


async def _metric(client: RpcClient, name: str) -> float:
    async with (
        aiohttp.ClientSession() as http,
        http.get(client.urls[0].replace("/rpc", "") + "/metrics") as got,
    ):
        text = await got.text()
    return sum(
        float(line.split()[-1]) for line in text.splitlines() if line.split(" ")[0].split("{")[0] == name
    )


async def test_two_persons_break_the_glass_and_what_is_not_reviewed_raises_an_alarm() -> None:
    async with LocalCluster(nodes=4, decided={"review_ms": 8_000}) as cluster:
        owner, records = await admit(cluster, HOME)
        dora, sam = [await employ(cluster, WARD, ISSUER, name) for name in ("dora", "sam")]
        ward = cluster.session(WARD)
        clinician = cluster.session(WARD, dora.wallet)
        until_ms = await clinician.tip_ms() + HOUR_MS
        # The employer has a session for each of the two, and breaks nothing with them.
        shift, other = Wallet.create("shift"), Wallet.create("other shift")
        await shifts.begin(ward, dora.id, shift, until_ms)
        await shifts.begin(ward, sam.id, other, until_ms)
        pretended = Session(cluster.clients[WARD], cluster.genesis, shift, sender=dora.id)
        with pytest.raises(Refused, match=r"credential\.key_not_bound"):
            await emergency.declare(
                pretended,
                owner.identity,
                "danger-to-life",
                dora.licence,
                until_ms,
                second=other,
                second_as=sam.id,
                second_credential=sam.licence,
            )
        glasses = []
        for _ in range(2):
            glass, _ = await emergency.declare(
                clinician,
                owner.identity,
                "danger-to-life",
                dora.licence,
                until_ms,
                second=sam.wallet,
                second_credential=sam.licence,
            )
            glasses.append(glass)
        # She reads with the key of her shift.
        asked = await reading.request(pretended, emergency.PURPOSE, record_ids=records)
        assert {verdict.basis for verdict in asked.decision.verdicts} == {"break-glass"}
        opened = await reading.fetch(pretended, asked, cluster.clients[HOME])
        assert sorted(one.payload for one in opened) == sorted(RECORDS)
        told = [one.kind for one in await emergency.notices_of(cluster.clients[REVIEWER], owner.identity)]
        assert told.count("emergency.declared") == 2
        assert "access.notice" in told
        # One is reviewed in time. The other is not: every node says so, and the patient is told.
        await emergency.review(cluster.session(REVIEWER), glasses[0], "justified")

        async def overdue() -> bool:
            await cluster.commit(REVIEWER)
            found = [await alarms(client) for client in cluster.clients]
            return all(one.overdue == 1 for one in found)

        await until(overdue, "every node shows the overdue review")
        (owed,) = (await alarms(cluster.clients[HOME])).institutions
        assert (bytes(owed.institution), [bytes(one.glass) for one in owed.overdue]) == (
            ward.identity,
            [glasses[1]],
        )

        async def reported() -> bool:
            notices = await emergency.notices_of(cluster.clients[HOME], owner.identity)
            return "emergency.review_overdue" in [one.kind for one in notices]

        await until(reported, "a node of another institution tells that the review is overdue")

        async def shown() -> bool:
            status = await cluster.clients[HOME].status()
            metric = await _metric(cluster.clients[HOME], "consilium_emergency_reviews_overdue")
            return bool(status["emergencies"].get("alarm")) and metric == 1

        await until(shown, "status and metrics show the alarm")
        await emergency.review(cluster.session(ISSUER), glasses[1], "unjustified")

        async def quiet() -> bool:
            await cluster.commit(REVIEWER)
            return not (await alarms(cluster.clients[HOME])).institutions

        await until(quiet, "nothing is owed any more")
        await common_chain(cluster)


async def test_a_summary_is_opened_with_the_quorum_cut_off_and_told_afterwards() -> None:
    async with LocalCluster(nodes=4, cuttable=True) as cluster:
        owner, _ = await admit(cluster, HOME)
        stranger, _ = await admit(cluster, HOME)
        dora, sam = [await employ(cluster, WARD, ISSUER, name) for name in ("dora", "sam")]
        ward = cluster.session(WARD)
        _, parcels, made = await summaries.make_key(ward, [dora.id, sam.id])
        await cluster.commit(WARD)
        await cluster.wait_height(made.height + 1)
        persons = (_person(dora, parcels), _person(sam, parcels))
        text = b'{"resourceType":"Bundle","type":"document"}'
        summary, _ = await summaries.place(owner, ward.identity, text, cluster.clients[WARD])
        await summaries.place(stranger, ward.identity, b"{}", cluster.clients[WARD])
        with pytest.raises(Refused, match=r"summary\.unknown"):  # not the envelope that is placed there
            await _deposit(cluster.clients[HOME], owner, text)
        await preferences.set_preferences(stranger, summary_opt_out=True)
        await cluster.commit(0)
        node = cluster.clients[WARD]

        async def attempt(
            who: bytes = owner.identity, pair: tuple[summaries.Person, summaries.Person] = persons
        ) -> summaries.OpenedSummary:
            return await summaries.open_offline(
                node, ward.chain_id, ward.identity, who, "danger-to-life", pair, now_ms()
            )

        with pytest.raises(Refused, match=r"summary\.quorum_present"):
            await attempt()
        with pytest.raises(Refused, match=r"summary\.unknown"):  # it is not for this institution
            await summaries.open_offline(
                cluster.clients[HOME],
                ward.chain_id,
                cluster.institution(HOME).identity,
                owner.identity,
                "danger-to-life",
                persons,
                now_ms(),
            )
        cluster.cut_off(WARD)
        opened: list[summaries.OpenedSummary] = []

        async def silent() -> bool:
            try:
                opened.append(await attempt())
            except Refused as refusal:
                if refusal.code == "summary.quorum_present":
                    return False
                raise
            return True

        await until(silent, "the node says that no quorum answers")
        assert opened[0].payload == text
        entry = opened[0].given.entry
        assert (entry.summary, entry.sequence, entry.previous) == (summary, 1, contract.FIRST)
        # One person twice, somebody without a share's right, a patient who does not want it.
        for pair in ((persons[0], persons[0]), (persons[1], persons[1])):
            with pytest.raises(Refused, match=r"summary\.not_a_holder"):
                await attempt(pair=pair)
        with pytest.raises(Refused, match=r"summary\.opted_out"):
            await attempt(stranger.identity)
        second = (await attempt()).given.entry
        assert (second.sequence, second.previous) == (2, entry.hash)
        assert (await alarms(node)).unreported == 2
        # The log is on disk: a power cut changes nothing.
        await cluster.kill(WARD)
        cluster.heal()
        await cluster.restart(WARD)

        async def reported() -> bool:
            await cluster.commit(HOME)
            found = await emergency.notices_of(cluster.clients[HOME], owner.identity)
            return [one.kind for one in found].count("summary.opened") == 2

        await until(reported, "both openings are on the chain")
        (owed,) = (await alarms(cluster.clients[HOME])).institutions
        assert (bytes(owed.institution), owed.open, owed.late) == (ward.identity, 2, 0)
        with pytest.raises(Refused, match=r"summary\.out_of_order"):
            await summaries.report(cluster.session(WARD, dora.wallet), opened[0].given, now_ms() - 1)
        await emergency.review(cluster.session(REVIEWER), entry.glass, "justified")
        glass = await emergency.glass_of(cluster.session(REVIEWER), second.glass)
        assert glass is not None
        assert (glass.clinician, glass.second, glass.patient) == (dora.id, sam.id, owner.identity)

        async def nothing_left() -> bool:
            return not (await alarms(node)).unreported

        await until(nothing_left, "the node knows that its log is reported")


def _person(who: Person, parcels: dict[bytes, bytes]) -> summaries.Person:
    return summaries.Person(who.wallet, who.id, who.licence, parcels[who.id])


async def _deposit(client: RpcClient, owner: Session, text: bytes) -> None:
    await deposit_summary(client, owner.identity, text)
