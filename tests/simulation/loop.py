"""The event loop of one life of one simulated node: asyncio over simulated time, alone and deterministic.

The product's own tasks run on it unchanged. Its time is the world's; what is soon runs within the same instant, in
order; what blocks in a thread runs in line, or takes as long as the simulated disk or a busy machine takes. It can be
paused (SIGSTOP: nothing runs, nothing is lost) and killed (SIGKILL: nothing that is left of it has any effect).
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any

from consilium.node import threads
from tests.simulation.world import World

BACKLOG_MAX = 600
"""So many packets wait for a paused node: beyond it, its peers' outboxes are full."""
CLEARING_MAX = 20_000
SLOW_THREAD_IN = 12
"""One call in so many to a thread that touches no disk comes back a moment later than at once."""


class Killed(BaseException):
    """The process is dead: whatever was running stops here."""


class _Job:
    """A call in a thread that waits for the disk."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self.work, self.future = work, future


class HostLoop(asyncio.AbstractEventLoop):
    """See the module. `failed` is told what escapes from a callback; `sync_ms` draws how long the disk takes;
    `effect` is called at each timer that is set: the node may die there."""

    def __init__(
        self,
        world: World,
        offset_ms: int,
        failed: Callable[[BaseException], None],
        sync_ms: Callable[[], int],
        effect: Callable[[], None],
    ) -> None:
        self._world = world
        self._offset_ms = offset_ms
        self._failed = failed
        self._sync_ms = sync_ms
        self._effect = effect
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._jobs: dict[_Job, None] = {}
        self._backlog: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._running = False
        self._cleared = False
        self.paused = False
        self.dead = False

    # Entering it --------------------------------------------------------------------------------------------------

    def enter(self, action: Callable[..., Any], *arguments: Any) -> None:
        """Do something on this loop now, and all that follows from it in this instant."""
        if self.dead:
            return
        if self.paused:
            self._backlog.append((action, arguments))
            return
        events._set_running_loop(self)
        self._running = True
        try:
            action(*arguments)
            self._drain()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the schedule, which fails
            self._failed(error)
        finally:
            self._running = False
            if self.dead:
                self._clear()
            events._set_running_loop(None)

    @property
    def crowded(self) -> bool:
        """Whether a paused node's peers must hold back what they have for it."""
        return self.paused and len(self._backlog) >= BACKLOG_MAX

    def _drain(self) -> None:
        ready = self._ready
        while ready and not self.dead:
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def resume(self) -> None:
        """SIGCONT: everything that waited happens now."""
        self.paused = False
        while self._backlog and not self.paused and not self.dead:
            action, arguments = self._backlog.popleft()
            self.enter(action, *arguments)

    def kill(self) -> list[Callable[[], Any]]:
        """SIGKILL. Returns the writes that were under way: they may have reached the disk, or not."""
        self.dead = True
        under_way = [job.work for job in self._jobs]
        if not self._running:
            events._set_running_loop(self)
            self._clear()
            events._set_running_loop(None)
        return under_way

    def _clear(self) -> None:
        """End the tasks of the dead process, so that nothing of them is left to be collected at some other time."""
        if self._cleared:
            return
        self._cleared = True
        for job in self._jobs:
            job.future.cancel()
        for task in list(self._tasks):
            task.cancel()
        for _ in range(CLEARING_MAX):
            if not self._ready:
                break
            handle = self._ready.popleft()
            if not handle._cancelled:
                handle._run()

    # What asyncio asks of a loop ------------------------------------------------------------------------------------

    def time(self) -> float:
        return (self._world.now + self._offset_ms) / 1000

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.dead:
            self._effect()
            self._world.at(round(when * 1000) - self._offset_ms, self._fire, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It fires into nothing."""

    def _fire(self, handle: asyncio.TimerHandle) -> None:
        if not handle._cancelled:
            self.enter(self._run_timer, handle)

    @staticmethod
    def _run_timer(handle: asyncio.TimerHandle) -> None:
        if not handle._cancelled:  # since it waited for a paused loop
            handle._run()

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future = self.create_future()
        if self.dead:
            future.cancel()
            return future
        job = _Job(lambda: func(*args), future)
        if executor is threads._durable:
            delay_ms = self._sync_ms()
        else:
            delay_ms = 0 if self._world.rng.randrange(SLOW_THREAD_IN) else self._world.rng.randint(1, 3)
        if delay_ms:
            self._jobs[job] = None
            self._world.after(delay_ms, self.enter, self._finish, job)
        else:
            self._finish(job)
        return future

    def _finish(self, job: _Job) -> None:
        self._jobs.pop(job, None)
        if job.future.cancelled():
            return
        try:
            result = job.work()
        except Exception as error:  # noqa: BLE001 - the caller has it, as from a thread
            job.future.set_exception(error)
        else:
            job.future.set_result(result)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self.dead or isinstance(error, Killed):
            return
        self._failed(error if error is not None else RuntimeError(str(context.get("message"))))


class Rest:
    """The rest of a coroutine that was started outside of a task, and waits for `first`."""

    __slots__ = ("_coroutine", "_first")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], first: Any) -> None:
        self._coroutine, self._first = coroutine, first

    def __await__(self) -> Any:
        waits_for = self._first
        while True:
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 - thrown into the coroutine, as a task would
                step: Callable[[], Any] = partial(self._coroutine.throw, error)
            else:
                step = partial(self._coroutine.send, None)
            try:
                waits_for = step()
            except StopIteration as stop:
                return stop.value
