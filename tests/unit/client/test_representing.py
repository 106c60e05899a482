"""Who speaks for a patient: appointed, dismissed, and all gone with a take-over."""

from __future__ import annotations

import pytest

from consilium.client import identities, recording, representing
from consilium.client.wallet import Wallet
from consilium.contracts.classes import CLASSES
from tests.unit.client.acting import code_of, later, network, staff


async def test_a_delegate_is_appointed_and_dismissed() -> None:
    async with network() as care:
        friend = await staff(care.north, "paul", "patient")
        body = await representing.appointment(care.patient, friend.identity, "delegate", later(care))
        await representing.appoint(care.patient, body)
        assert await code_of(representing.appoint(care.patient, body)) != "ok", "it counts once"
        await care.tick()
        account = await representing.account_of(care.south, care.petra.identity)
        assert (account.manager, [one.identity for one in account.representatives]) == (
            care.north.identity,
            [friend.identity],
        )
        await representing.dismiss(care.session(friend), friend.identity, patient=care.petra.identity)
        await care.tick()
        assert (await representing.account_of(care.south, care.petra.identity)).representatives == []


async def test_a_take_over_leaves_only_the_fresh_wallet_which_knows_the_classes() -> None:
    async with network() as care:
        before = await recording.class_map_from(care.patient, care.petra)
        saved: list[Wallet] = []
        taken = await representing.take_over(care.patient, Wallet.create("own"), saved.append)
        assert [one.root for one in saved] == [taken.wallet.root]
        await care.tick()
        account = await representing.account_of(care.south, care.petra.identity)
        assert (account.manager, account.representatives, account.generation) == (None, [], 1)
        late = representing.dismiss(care.patient, bytes(16))
        assert await code_of(late) == "identity.key_not_authorised"
        words = Wallet.of_root(taken.wallet.root).speaking_for(care.petra.identity)
        after = await recording.class_map_from(care.session(words), words)
        assert [after.compartment(code) for code in CLASSES] == [before.compartment(code) for code in CLASSES]


async def test_who_does_not_know_the_classes_takes_over_all_the_same() -> None:
    """A key that was added has another root: it cannot hide anew what it does not know."""
    async with network() as care:
        card = Wallet.create("card").speaking_for(care.petra.identity)
        await identities.add_key(care.patient, card)
        await care.tick()
        before = await recording.class_map_from(care.patient, care.petra)
        taken = await representing.take_over(care.session(card), Wallet.create("own"), lambda kept: None)
        await care.tick()
        assert await code_of(recording.class_map_from(taken.session, taken.wallet)) == (
            "records.class_map_wrong"
        )
        # Whoever has the first wallet's file still opens what it hid.
        assert await recording.class_map_from(care.south, care.petra) == before


async def test_nothing_is_published_that_could_not_be_saved() -> None:
    async with network() as care:

        def full(_: Wallet) -> None:
            raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space"):
            await representing.take_over(care.patient, Wallet.create("own"), full)
        await care.tick()
        account = await representing.account_of(care.south, care.petra.identity)
        assert (account.manager, account.generation) == (care.north.identity, 0)
