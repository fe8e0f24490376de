"""hold(): a block that ends with Revoked, and keeps peace with other cancellations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import anyio
import pytest

from realtime_ticket import InvalidTicket, StorageError, TicketService
from realtime_ticket.backends.locmem import LocMemBackend
from realtime_ticket.live import LiveTickets, Revoked
from realtime_ticket.tickets import Ticket
from tests.helpers import WAIT
from tests.journals import ticket


class Stage:
    """Live tickets whose journal is read when the test says so."""

    def __init__(self) -> None:
        self.service = TicketService(LocMemBackend())
        self.live = LiveTickets(self.service, thread=False)
        self.live.poll()

    @property
    def ticket(self) -> Ticket:
        return ticket(issued_at=time.time())

    @property
    def another(self) -> Ticket:
        """Return the ticket of a user who is not disconnected."""
        return ticket(8, issued_at=time.time())

    def end(self) -> None:
        """Disconnect the user of every ticket here."""
        self.service.disconnect(7)
        self.live.poll()

    def end_soon(self) -> None:
        """Do it when the running task waits."""
        asyncio.get_running_loop().call_soon(self.end)


def play(scene: Callable[[Stage], Awaitable[None]]) -> None:
    """Run the scene. Nothing may be left of a cancellation after it."""

    async def whole() -> None:
        await scene(Stage())
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(whole(), WAIT))


def test_a_block_ends_with_revoked_where_it_waits() -> None:
    """It cleans up, and no cancellation is left.

    Mutants: hold-keeps-its-cancellation.
    """

    async def scene(stage: Stage) -> None:
        cleaned_up = False
        stage.end_soon()
        with pytest.raises(Revoked) as ended:
            async with stage.live.hold(stage.ticket):
                try:
                    await asyncio.sleep(WAIT)
                finally:
                    cleaned_up = True
        assert (ended.value.cause, cleaned_up) == ("user", True)

    play(scene)


def test_a_block_that_ends_by_itself_is_left_alone() -> None:
    async def scene(stage: Stage) -> None:
        async with stage.live.hold(stage.ticket):
            await asyncio.sleep(0)
        stage.end()
        await asyncio.sleep(0)
        assert len(stage.service.listener._state.watches) == 0

    play(scene)


def test_a_disconnect_that_comes_as_the_block_ends_does_nothing() -> None:
    """The task goes on.

    Mutants: hold-cancels-after-its-end.
    """

    async def scene(stage: Stage) -> None:
        async with stage.live.hold(stage.ticket):
            stage.end()  # its callback is on its way through the loop
        await asyncio.sleep(0)

    play(scene)


def test_an_error_of_the_block_comes_out() -> None:
    async def scene(stage: Stage) -> None:
        stage.end_soon()
        with pytest.raises(KeyError):
            async with stage.live.hold(stage.ticket):
                try:
                    await asyncio.sleep(WAIT)
                finally:
                    raise KeyError

    play(scene)


def test_a_block_that_swallows_its_cancellation_is_revoked_all_the_same() -> None:
    """It must not go on as if nothing had happened.

    Mutants: hold-forgives-who-swallows.
    """

    async def scene(stage: Stage) -> None:
        stage.end_soon()
        with pytest.raises(Revoked):
            async with stage.live.hold(stage.ticket):
                try:
                    await asyncio.sleep(WAIT)
                except asyncio.CancelledError:
                    await asyncio.sleep(0)

    play(scene)


def test_a_block_that_goes_on_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may have lost the first cancellation, and does not know that it must end.

    Mutants: hold-cancels-once.
    """
    monkeypatch.setattr("realtime_ticket.live._CANCEL_AGAIN", 0.01)

    async def scene(stage: Stage) -> None:
        stage.end_soon()
        cancelled = 0
        with pytest.raises(Revoked):
            async with stage.live.hold(stage.ticket):
                for _ in range(3):
                    try:
                        await asyncio.sleep(0.5)
                    except asyncio.CancelledError:
                        cancelled += 1
        assert cancelled == 3
        await asyncio.sleep(0.02)  # and not once more, when it has ended

    play(scene)


def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def scene(stage: Stage) -> None:
        async def connection() -> None:
            async with stage.live.hold(stage.ticket):
                await asyncio.sleep(WAIT)

        task = asyncio.create_task(connection())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(stage.service.listener._state.watches) == 0

    play(scene)


@pytest.mark.parametrize("disconnect_first", [True, False])
def test_a_cancellation_from_elsewhere_at_the_same_time_goes_on(
    disconnect_first: bool,
) -> None:
    """Whichever came first.

    Mutants: hold-takes-every-cancellation.
    """

    async def scene(stage: Stage) -> None:
        async def connection() -> None:
            async with stage.live.hold(stage.ticket):
                await asyncio.sleep(WAIT)

        task = asyncio.create_task(connection())
        await asyncio.sleep(0)
        if disconnect_first:
            stage.end()
        asyncio.get_running_loop().call_soon(task.cancel)
        if not disconnect_first:
            stage.end()
        with pytest.raises(asyncio.CancelledError):
            await task

    play(scene)


def test_a_task_that_was_cancelled_before_can_hold() -> None:
    async def scene(stage: Stage) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        stage.end_soon()
        with pytest.raises(Revoked):
            async with stage.live.hold(stage.ticket):
                await asyncio.sleep(WAIT)
        assert task.cancelling() == 1
        task.uncancel()

    play(scene)


def test_two_connections_in_one_task_end_from_the_inside() -> None:
    async def scene(stage: Stage) -> None:
        stage.end_soon()
        reached = []
        with pytest.raises(Revoked):
            async with stage.live.hold(stage.ticket):
                try:
                    async with stage.live.hold(stage.ticket):
                        await asyncio.sleep(WAIT)
                except Revoked:
                    reached.append("inner")
                await asyncio.sleep(WAIT)
        assert reached in ([], ["inner"])

    play(scene)


@pytest.mark.parametrize("hold_outside", [True, False])
def test_it_nests_with_a_timeout(hold_outside: bool) -> None:
    async def scene(stage: Stage) -> None:
        stage.end_soon()
        with pytest.raises(Revoked):
            if hold_outside:
                async with stage.live.hold(stage.ticket), asyncio.timeout(WAIT):
                    await asyncio.sleep(WAIT)
            else:
                async with asyncio.timeout(WAIT), stage.live.hold(stage.ticket):
                    await asyncio.sleep(WAIT)
        with pytest.raises(TimeoutError):
            if hold_outside:
                async with stage.live.hold(stage.another), asyncio.timeout(0.01):
                    await asyncio.sleep(WAIT)
            else:
                async with asyncio.timeout(0.01), stage.live.hold(stage.another):
                    await asyncio.sleep(WAIT)

    play(scene)


def test_a_task_group_inside_is_cancelled_with_the_block() -> None:
    async def scene(stage: Stage) -> None:
        stage.end_soon()
        ended = []

        async def child() -> None:
            try:
                await asyncio.sleep(WAIT)
            finally:
                ended.append("child")

        with pytest.raises(Revoked):
            async with stage.live.hold(stage.ticket), asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(child())
        assert ended == ["child"] * 3

    play(scene)


def test_a_task_group_outside_gets_revoked_from_its_child() -> None:
    async def scene(stage: Stage) -> None:
        async def child() -> None:
            async with stage.live.hold(stage.ticket):
                await asyncio.sleep(WAIT)

        async def parent() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(child())
                tasks.create_task(asyncio.sleep(WAIT))
                await asyncio.sleep(0)
                stage.end_soon()

        with pytest.raises(ExceptionGroup) as group:
            await asyncio.create_task(parent())
        assert [type(error) for error in group.value.exceptions] == [Revoked]

    play(scene)


def test_it_nests_with_anyio() -> None:
    async def scene(stage: Stage) -> None:
        stage.end_soon()
        with pytest.raises(Revoked), anyio.CancelScope():
            async with stage.live.hold(stage.ticket):
                with anyio.CancelScope():
                    async with anyio.create_task_group() as group:
                        group.start_soon(anyio.sleep, WAIT)
                        await anyio.sleep(WAIT)

    play(scene)


def test_a_cancelled_scope_of_anyio_ends_only_itself() -> None:
    async def scene(stage: Stage) -> None:
        with anyio.move_on_after(0.01):
            async with stage.live.hold(stage.ticket):
                await anyio.sleep(WAIT)
        async with stage.live.hold(stage.ticket):
            with anyio.move_on_after(0.01):
                await anyio.sleep(WAIT)

    play(scene)


def test_a_block_is_not_entered_with_a_ticket_whose_login_has_ended() -> None:
    async def scene(stage: Stage) -> None:
        shown = stage.ticket
        stage.end()
        with pytest.raises(InvalidTicket):
            async with stage.live.hold(shown):
                pytest.fail("entered")

    play(scene)


def test_a_block_is_not_entered_when_nothing_was_read_yet() -> None:
    async def scene(stage: Stage) -> None:
        live = LiveTickets(TicketService(LocMemBackend()), thread=False)
        with pytest.raises(StorageError):
            async with live.hold(stage.ticket):
                pytest.fail("entered")

    play(scene)


def test_it_works_once() -> None:
    async def scene(stage: Stage) -> None:
        held = stage.live.hold(stage.ticket)
        async with held:
            pass
        with pytest.raises(RuntimeError, match="Call hold\\(\\) again"):
            async with held:
                pytest.fail("entered")

    play(scene)


def test_it_works_only_in_a_task() -> None:
    stage = Stage()
    entering = stage.live.hold(stage.ticket).__aenter__()
    loop = asyncio.new_event_loop()
    outcome: list[BaseException] = []

    def enter() -> None:
        try:
            entering.send(None)
        except RuntimeError as exc:
            outcome.append(exc)
        loop.stop()

    loop.call_soon(enter)
    loop.run_forever()
    loop.close()
    assert [str(error) for error in outcome] == ["hold() works only in a task."]


def test_a_loop_that_was_closed_costs_nobody_a_disconnect() -> None:
    stage = Stage()
    ended: list[Revoked] = []

    async def leave() -> None:
        await stage.live.awatch(stage.ticket, print)  # and never close it

    asyncio.run(leave())
    stage.live.watch(stage.ticket, ended.append)
    stage.end()
    assert [revoked.cause for revoked in ended] == ["user"]
