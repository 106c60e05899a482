"""Credentials: issued to who is seen, bound to a key that proved itself, and taken back."""

from __future__ import annotations

from consilium.client import credentialing
from tests.unit.client.acting import code_of, later, network, staff


async def test_a_credential_is_issued_and_taken_back() -> None:
    async with network() as care:
        doctor = await staff(care.south, "dora")
        licence, _ = await credentialing.issue(care.north, doctor.identity, "licence", later(care))
        await care.tick()
        known = await credentialing.credential_of(care.south, licence)
        assert known is not None
        assert (known.subject, known.issuer, known.revoked_ms) == (
            doctor.identity,
            care.north.identity,
            None,
        )
        assert await code_of(credentialing.revoke(care.south, licence)) == "credential.not_the_issuer"
        await credentialing.revoke(care.north, licence)
        await care.tick()
        known = await credentialing.credential_of(care.south, licence)
        assert known is not None
        assert known.revoked_ms is not None
        assert await credentialing.credential_of(care.south, bytes(16)) is None


async def test_the_key_that_a_licence_is_bound_to_signed_for_it() -> None:
    async with network() as care:
        doctor, other = await staff(care.south, "dora"), await staff(care.south, "eve")
        bound, _ = await credentialing.issue(
            care.north, doctor.identity, "licence", later(care), holder=doctor
        )
        await care.tick()
        known = await credentialing.credential_of(care.north, bound)
        assert known is not None
        assert known.holder == doctor.signing.public

        # Signed at home, for an id that the issuer told: good for that one credential.
        proof = credentialing.prove_holder(care.north.chain_id, care.north.identity, b"i" * 16, doctor)
        for identifier, code in ((b"j" * 16, "credential.bad_holder"), (b"i" * 16, "ok")):
            given = credentialing.issue(
                care.north, doctor.identity, "licence", later(care), holder=proof, identifier=identifier
            )
            assert await code_of(given) == code
        stolen = credentialing.issue(care.north, other.identity, "licence", later(care), holder=doctor)
        assert await code_of(stolen) != "ok"
