"""What a patient decides once for everybody: emergencies, the network's policy, emergency summaries."""

from __future__ import annotations

from consilium.client.rpc import Committed
from consilium.client.session import Session
from consilium.contracts import preferences


async def preferences_of(session: Session, patient: bytes) -> preferences.Preferences:
    """A patient's preferences; what was never said is False."""
    return await session.state(preferences.PREFERENCES, patient) or preferences.DEFAULTS


async def set_preferences(
    session: Session,
    *,
    emergency_deny: bool | None = None,
    opt_out: bool | None = None,
    summary_opt_out: bool | None = None,
) -> tuple[preferences.Preferences, Committed]:
    """Change this patient's preferences; None leaves one as it is. Returns what they are now."""
    now = await preferences_of(session, session.identity)
    chosen = preferences.Preferences(
        emergency_deny=now.emergency_deny if emergency_deny is None else emergency_deny,
        opt_out=now.opt_out if opt_out is None else opt_out,
        summary_opt_out=now.summary_opt_out if summary_opt_out is None else summary_opt_out,
    )
    return chosen, await session.act("preferences.set", chosen)
