"""Epochs: the new key is saved before it is published, and what is recorded next is sealed to it."""

from __future__ import annotations

import pytest

from consilium.client import epochs, recording
from consilium.client.wallet import Wallet
from tests.unit.client.acting import code_of, network


async def test_a_new_epoch_is_saved_first_and_then_sealed_to() -> None:
    async with network() as care:
        compartment, before, _ = await recording.general_compartment(care.north, care.petra.identity)
        saved: list[Wallet] = []
        wallet, done = await epochs.begin_epoch(
            care.patient,
            care.petra,
            compartment,
            saved.append,
            to={care.north.identity: care.rpc},  # type: ignore[dict-item]
        )
        assert [one.compartment_secret(compartment, before + 1) for one in saved] == [
            wallet.compartment_secret(compartment, before + 1)
        ]
        await care.tick()
        _, now, epoch = await recording.general_compartment(care.north, care.petra.identity)
        secret = wallet.compartment_secret(compartment, now)
        assert secret is not None
        assert (now, epoch.point) == (before + 1, secret.point)
        assert done.certified
        # Its custodian had its share with it.
        assert care.custodian.compartments == 10
        await care.import_notes(1)


async def test_nothing_is_published_that_could_not_be_saved() -> None:
    async with network() as care:
        compartment, before, _ = await recording.general_compartment(care.north, care.petra.identity)

        def full(_: Wallet) -> None:
            raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space"):
            await epochs.begin_epoch(care.patient, care.petra, compartment, full)
        await care.tick()
        assert (await recording.general_compartment(care.north, care.petra.identity))[1] == before


async def test_others_begin_none() -> None:
    async with network() as care:
        compartment, *_ = await recording.general_compartment(care.north, care.petra.identity)
        begun = epochs.begin_epoch(care.south, care.petra, compartment, lambda kept: None)
        assert await code_of(begun) == "records.not_yours"
