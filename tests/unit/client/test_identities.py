"""Keys that are added and revoked while the identity stays; staff that is suspended and reinstated."""

from __future__ import annotations

from consilium.client import identities, preferences
from consilium.client.wallet import Wallet
from tests.unit.client.acting import code_of, network, staff


async def test_a_second_key_speaks_until_it_is_revoked() -> None:
    async with network() as care:
        card = Wallet.create("card")
        by_card = care.session(card.speaking_for(care.petra.identity))
        assert await code_of(preferences.set_preferences(by_card, opt_out=True)) != "ok"
        await identities.add_key(care.patient, card)
        await care.tick()
        assert by_card.identity == care.petra.identity
        await preferences.set_preferences(by_card, opt_out=True)
        await care.tick()
        assert (await preferences.preferences_of(care.north, care.petra.identity)).opt_out

        await identities.revoke_key(care.patient, card.signing.public)
        await care.tick()
        late = preferences.set_preferences(by_card, opt_out=False)
        assert await code_of(late) == "identity.key_not_authorised"
        own = identities.revoke_key(care.patient, care.petra.signing.public)
        assert await code_of(own) == "identity.last_key"


async def test_a_key_that_is_somebodys_is_not_added() -> None:
    async with network() as care:
        taken = await staff(care.south, "dora")
        assert await code_of(identities.add_key(care.patient, taken)) == "identity.key_taken"


async def test_staff_is_suspended_by_who_enrolled_it() -> None:
    async with network() as care:
        doctor = await staff(care.south, "dora")
        assert await code_of(identities.suspend(care.north, doctor.identity)) != "ok"
        await identities.suspend(care.south, doctor.identity)
        await care.tick()
        assert (await care.north.identity_of(doctor.identity)).status == "suspended"
        await identities.reinstate(care.south, doctor.identity)
        await care.tick()
        assert (await care.north.identity_of(doctor.identity)).status == "active"
