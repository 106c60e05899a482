"""What founders agree on beside their keys: who issues credentials, who is an authority, the network's settings.

Without an issuer nobody breaks a glass, and without an authority nobody issues a mandate. A network of people chooses
them when it is founded, and changes its mind by vote (`ballot.ChangeRoles`, `ballot.ChangeSettings`). `local_terms` are
those of a cluster on one machine, where everything can be tried.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from consilium.contracts import identity
from consilium.contracts.settings import DEFAULTS, Settings, require_sound
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.genesis import Genesis
from consilium.ledger.transaction import OPERATION_BODY_BYTES_MAX, identity_of
from consilium.node import files

ROLES: Final[list[identity.Role]] = ["author", "custodian", "manager"]
"""What every founder is; the terms say who is more."""
SETTINGS_BYTES_MAX: Final = 16 * 1024
NO_CHANGES: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Terms:
    """What founders agree on beside their keys. `issuers` and `authorities` are institutions (16 bytes); `settings`
    None means the defaults, and, for a founder alone, that it reads alone."""

    issuers: tuple[bytes, ...] = ()
    authorities: tuple[bytes, ...] = ()
    settings: Settings | None = None

    def roles(self, institution: bytes) -> list[identity.Role]:
        """What an institution is, in the order of the alphabet."""
        further: list[identity.Role] = []
        if institution in self.authorities:
            further.append("authority")
        if institution in self.issuers:
            further.append("issuer")
        return sorted([*ROLES, *further])


NO_TERMS: Final = Terms()


def local_terms(institutions: Sequence[bytes], changes: Mapping[str, Any] = NO_CHANGES) -> Terms:
    """The terms of a cluster on one machine: the last founder is an authority, the last two issue credentials (so that
    each has somebody else's for its own staff), and emergency summaries are used. `changes` are settings by name.

    Raises Refused `founding.bad_terms`, `settings.bad_policy`.
    """
    least = min(DEFAULTS.sensitive_threshold_min, len(institutions))
    usual = {"emergency_summaries": True, "sensitive_threshold_min": least}
    return Terms(
        issuers=tuple(institutions[-2:]),
        authorities=tuple(institutions[-1:]),
        settings=settings_from({**usual, **changes}),
    )


def settings_from(changes: Mapping[str, Any], base: Settings = DEFAULTS) -> Settings:
    """`base` with some settings changed, by name. Raises Refused `founding.bad_terms`, `settings.bad_policy`."""
    unknown = [name for name in changes if name not in Settings.__struct_fields__]
    if unknown:
        known = ", ".join(Settings.__struct_fields__)
        raise Refused("founding.bad_terms", f"{unknown[0][:64]!r}: a network's settings are {known}")
    values = {name: getattr(base, name) for name in Settings.__struct_fields__} | dict(changes)
    try:
        made = msgspec.convert([values[name] for name in Settings.__struct_fields__], Settings)
    except msgspec.ValidationError as error:
        raise Refused("founding.bad_terms", str(error)) from None
    require_sound(made)
    return made


def changes_from(path: Path) -> dict[str, Any]:
    """Settings by name, from a TOML file. Raises Refused `config.*` (the file), `founding.bad_terms`."""
    raw = files.read_bounded(path, SETTINGS_BYTES_MAX)
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused("founding.bad_terms", f"{path}: {error}") from None


def roles_in(genesis: Genesis) -> dict[bytes, list[str]]:
    """What each founder is, by institution. Raises Refused `codec.*` where the document holds what is none."""
    found: dict[bytes, list[str]] = {}
    for one in genesis.operations:
        if one.name == "identity.found":
            body = codec.decode(one.body, identity.FoundInstitution, OPERATION_BODY_BYTES_MAX)
            found[identity_of(body.key)] = list(body.roles)
    return found


def settings_in(genesis: Genesis) -> Settings:
    """The settings that a genesis states, or the defaults. Raises Refused `codec.*`."""
    for one in genesis.operations:
        if one.name == "settings.found":
            return codec.decode(one.body, Settings, OPERATION_BODY_BYTES_MAX)
    return DEFAULTS
