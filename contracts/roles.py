"""Changing what an institution may do: accrediting an issuer, naming an authority, taking either back.

Founders state the first roles in the genesis document; later ones are governance's affair, and take effect at once:
credentials of an institution that is an issuer no more are worth nothing from that block on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from consilium.contracts import identity
from consilium.contracts.operation import EventKind
from consilium.ledger import codec
from consilium.ledger.errors import Refused
from consilium.ledger.execution import OperationContext


class RolesChanged(codec.Wire, frozen=True):
    """The data of `governance.roles_changed`."""

    roles: identity.Roles


ROLES_CHANGED: Final = EventKind("governance.roles_changed", RolesChanged)


def check_roles(institution: bytes, roles: Sequence[str], context: OperationContext) -> None:
    """Whether a standing institution may have these roles. Raises Refused `identity.*`."""
    if identity.require(context.state, institution).kind != identity.INSTITUTION:
        raise Refused("identity.not_an_institution", institution.hex())
    if list(roles) != sorted({*roles}):
        raise Refused("identity.bad_roles")


def change_roles(institution: bytes, roles: list[identity.Role], context: OperationContext) -> None:
    """Write an institution's new roles: who may do so is for the caller to ask. Raises Refused `identity.*`."""
    check_roles(institution, roles, context)
    known = identity.require(context.state, institution)
    identity.IDENTITIES.put(context.state, msgspec.structs.replace(known, roles=roles), institution)
    ROLES_CHANGED.emit(context, [institution], RolesChanged(roles))
