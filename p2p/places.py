"""Places for callers of whom nothing but an address is known yet, and who gives way when all are taken.

A newcomer is never turned away: if it were, whoever holds the places and says nothing would keep members out. One of
those inside goes instead, drawn by lot from the address that holds most. By lot, for who always sends the oldest away
sends everybody away as soon as strangers come fast enough; a member that loses dials again, and may win. It holds its
place from TCP until TLS has shown its key, which takes it two round trips; from then on it is counted by its key.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

NEIGHBOURS_PREFIX_BITS: Final = 64
"""What one customer is given of IPv6 at least (RFC 6177 section 2): as many addresses as it likes."""

Caller = TypeVar("Caller", bound=Hashable)


class Places(Generic[Caller]):
    """Who is inside, by address. Hosts with no more than `fair` inside all count as equally full: a member needs two
    places at once, for its two lanes, and must not be the first to go beside strangers that come one by one.
    """

    def __init__(
        self,
        places_max: int,
        per_host_max: int,
        fair: int,
        choose: Callable[[Sequence[Caller]], Caller],
    ) -> None:
        self._places_max = places_max
        self._per_host_max = per_host_max
        self._fair = fair
        self._choose = choose
        self._host_of: dict[Caller, str] = {}
        self._inside: dict[str, set[Caller]] = {}

    def __len__(self) -> int:
        return len(self._host_of)

    def enter(self, address: str, newcomer: Caller) -> Caller | None:
        """Give the newcomer a place. Returns who has lost its own for it, if anybody."""
        host = neighbourhood(address)
        gone: Caller | None = None
        if len(self._inside.get(host, ())) >= self._per_host_max:
            gone = self._choose(list(self._inside[host]))
        elif len(self) >= self._places_max:
            gone = self._choose(self._crowd(host))
        if gone is not None:
            self.leave(gone)
        self._host_of[newcomer] = host
        self._inside.setdefault(host, set()).add(newcomer)
        return gone

    def leave(self, caller: Caller) -> None:
        """Give a place back; nothing if it was given back before."""
        host = self._host_of.pop(caller, None)
        if host is not None:
            self._inside[host].discard(caller)
            if not self._inside[host]:
                del self._inside[host]

    def _crowd(self, newcomers: str) -> list[Caller]:
        """Those inside from the hosts that hold most, once the newcomer is in."""
        held = {host: max(self._fair, len(inside)) for host, inside in self._inside.items()}
        held[newcomers] = max(self._fair, len(self._inside.get(newcomers, ())) + 1)
        most = max(held.values())
        return [caller for host, inside in self._inside.items() if held[host] == most for caller in inside]


def neighbourhood(address: str) -> str:
    """Whom an IP address is counted with: itself in IPv4, its network of 64 bits in IPv6."""
    host = ipaddress.ip_address(address)
    if isinstance(host, ipaddress.IPv4Address):
        return str(host)
    if host.ipv4_mapped is not None:
        return str(host.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(host), NEIGHBOURS_PREFIX_BITS), strict=False))
