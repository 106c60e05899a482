"""What is still to be attested: noted once however often, struck once, and counted without reading it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consilium.storage import schema
from consilium.storage.kv import MemoryKV
from consilium.storage.owed import OwedErasures

ERASURES = st.integers(0, 5).map(lambda number: number.to_bytes(16, "big"))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), ERASURES),
        st.tuples(st.just("strike"), st.lists(ERASURES, max_size=4)),
        st.just(("open", b"")),
    ),
    max_size=30,
)


@given(STEPS)
def test_as_a_set(steps: list[tuple[str, object]]) -> None:
    store = MemoryKV()
    store.write([(schema.ENVELOPE + bytes(32), b"beside it")], sync=True)
    owed, twin = OwedErasures(store), set[bytes]()
    for what, which in steps:
        if isinstance(which, list):
            owed.strike(which)
            twin.difference_update(which)
        elif what == "add" and isinstance(which, bytes):
            owed.add(which)
            twin.add(which)
        else:
            owed = OwedErasures(store)
        assert owed.some() == sorted(twin)
        assert owed.waiting == len(twin)


def test_what_was_noted_outlasts_a_crash() -> None:
    store = MemoryKV()
    OwedErasures(store).add(bytes(16))
    assert OwedErasures(store.crash()).waiting == 1
