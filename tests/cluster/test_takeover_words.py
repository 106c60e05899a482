"""After a take-over 24 words and the chain are enough: keys, whose they are, and which compartment is of which class.

The hospital made the patient's first wallet. The patient takes the account over with a wallet of their own, begins an
epoch, loses the device, and types the words on another one, at another node.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from consilium.client import epochs, reading, recording, recovery_words, representing
from consilium.client import wallet as wallets
from consilium.client.envelope import HeaderFields
from consilium.client.recording import Payload
from consilium.client.session import Session
from consilium.client.wallet import Wallet
from consilium.contracts.classes import CLASSES, HIV
from consilium.ledger.errors import Refused
from consilium.node.testing import LocalCluster

HOSPITAL, OTHER = 0, 1
RAW = b'{"resourceType": "Observation", "status": "final"}'
PASSPHRASE = "a sentence of several words"


async def classes(session: Session) -> dict[int, bytes]:
    """By class, which compartment; from the session's wallet and the chain alone."""
    known = await recording.class_map_from(session, session.wallet)
    return {code: known.compartment(code) for code in CLASSES}


async def test_words_and_chain_give_the_classes_back_after_a_take_over(tmp_path: Path) -> None:
    async with LocalCluster(nodes=3) as cluster:
        hospital = cluster.session(HOSPITAL)
        given = Wallet.create("Ada", "patient")
        await recording.enrol(hospital, "patient", given)
        others = {cluster.institution(OTHER).identity: cluster.clients[OTHER]}
        custodians = {hospital.identity: cluster.clients[HOSPITAL], **others}
        first = cluster.session(HOSPITAL, given)
        given = await recording.open_compartments(
            first, given, hospital.identity, lambda kept: None, others=others
        )
        before = await classes(cluster.session(HOSPITAL, given))

        # --- the patient's own wallet, which never saw the first one's root
        own = Wallet.create("Ada's own", "patient")
        words = recovery_words.words_of(own)
        saved = tmp_path / "own.wallet"
        taken = await representing.take_over(
            cluster.session(HOSPITAL, given),
            own,
            lambda kept: wallets.save(kept, saved, PASSPHRASE, replace=True),
            custodians=custodians,
        )
        await epochs.begin_epoch(
            taken.session,
            taken.wallet,
            before[HIV],
            lambda kept: wallets.save(kept, saved, PASSPHRASE, replace=True),
            to=custodians,
        )
        last = await cluster.commit(HOSPITAL)
        await cluster.wait_height(last.height)
        assert await classes(cluster.session(HOSPITAL, wallets.load(saved, PASSPHRASE))) == before
        with pytest.raises(Refused) as refused:  # nor does the first wallet open what hides them now
            await classes(cluster.session(HOSPITAL, given))
        assert refused.value.code == "records.class_map_wrong"

        # --- another device: the words, and whichever node
        saved.unlink()
        found = await recovery_words.restore(cluster.clients[OTHER], words)
        assert (found.known, found.wallet.identity) == (True, given.identity)
        device = cluster.session(OTHER, found.wallet)
        assert await classes(device) == before

        # What is recorded with this map is of the right class, and the words' wallet reads it.
        sealed = await recording.import_records(
            cluster.session(OTHER),
            found.wallet.identity,
            [Payload(RAW, HeaderFields("Observation", "1", "application/fhir+json"), (HIV,))],
            class_map=await recording.class_map_from(device, found.wallet),
            vaults=[cluster.clients[HOSPITAL]],
        )
        assert sealed.compartments == (before[HIV],)
        last = await cluster.commit(HOSPITAL)
        await cluster.wait_height(last.height)
        asked = await reading.request(device, "PATRQT", record_ids=sealed.records)
        (opened,) = await reading.fetch(device, asked, *cluster.clients[:2])
        assert opened.payload == RAW

        # --- and again: a wallet from words hands the account on to the next one
        third = Wallet.create("third", "patient")
        await representing.take_over(device, third, lambda kept: None, custodians=custodians)
        await cluster.wait_height((await cluster.commit(HOSPITAL)).height)
        again = await recovery_words.restore(cluster.clients[HOSPITAL], recovery_words.words_of(third))
        assert await classes(cluster.session(HOSPITAL, again.wallet)) == before
        with pytest.raises(Refused) as refused:
            await recovery_words.restore(cluster.clients[HOSPITAL], words)
        assert refused.value.code == "identity.key_not_authorised"
