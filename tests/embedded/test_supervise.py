"""Processes under `nexusrag up`: kept alive, stopped in good order, never left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nexusrag.cli.supervise import Child, Event, Supervisor, Timing
from nexusrag.embedded import tether
from tests.embedded.conftest import alive, child_environment, until

pytestmark = pytest.mark.slow

SLEEPER = ("/bin/sh", "-c", "exec sleep 600")
STUBBORN = ("/bin/sh", "-c", "trap '' TERM INT HUP; echo ready; while :; do sleep 0.05; done")
QUICK = Timing(backoff=0.02, backoff_cap=0.08, steady=60, grace=10, heal_every=0.02)


@asynccontextmanager
async def running(
    *children: Child, timing: Timing = QUICK, heal: Callable[[], object] | None = None
) -> AsyncIterator[tuple[Supervisor, list[Event]]]:
    events: list[Event] = []
    supervisor = Supervisor(children, timing=timing, heal=heal, on_event=events.append)
    await supervisor.start()
    try:
        yield supervisor, events
    finally:
        await supervisor.stop()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_killed_child_is_started_again_and_nothing_is_left_after_the_stop() -> None:
    async with running(Child("a", SLEEPER), Child("b", SLEEPER)) as (supervisor, events):
        first = supervisor.pid("a")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: supervisor.pid("a") not in (None, first))
        pids = [event.pid for event in events if event.kind == "started"]
        assert [(event.name, event.code) for event in events if event.kind == "died"] == [("a", -signal.SIGKILL)]
    assert len(pids) == 3 and not any(map(alive, pids))


async def test_pauses_before_restarts_double_up_to_the_cap() -> None:
    async with running(Child("a", ("/bin/sh", "-c", "exit 3"))) as (_, events):
        await eventually(lambda: len([event for event in events if event.kind == "died"]) >= 5)
    died = [event for event in events if event.kind == "died"][:5]
    assert [event.delay for event in died] == [0.02, 0.04, 0.08, 0.08, 0.08]
    assert {event.code for event in died} == {3}


async def test_a_program_that_does_not_exist_is_tried_again_and_does_not_stop_the_others() -> None:
    async with running(Child("a", ("/nonexistent/program",)), Child("b", SLEEPER)) as (supervisor, events):
        await eventually(lambda: len([event for event in events if event.kind == "died" and event.name == "a"]) >= 2)
        assert supervisor.pid("b") is not None


async def test_output_goes_to_the_log_and_the_environment_is_the_given_one(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    async with running(Child("a", ("/bin/sh", "-c", "echo out $X $HOME; echo err >&2; exec sleep 600"), env={"X": "1"}, log=log)):
        await eventually(lambda: log.exists() and log.read_text() == "out 1\nerr\n")


async def test_what_a_dead_child_had_started_goes_with_it(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    async with running(Child("a", ("/bin/sh", "-c", "sleep 600 & echo $!; wait"), log=log)) as (supervisor, _):
        await eventually(lambda: log.exists() and log.read_text().count("\n") == 1)
        first = supervisor.pid("a")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: log.read_text().count("\n") == 2)
        assert not alive(int(log.read_text().split()[0]))


async def test_a_child_that_will_not_end_is_killed_after_the_grace(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    timing = Timing(grace=0.1)
    async with running(Child("a", STUBBORN, log=log), Child("b", SLEEPER), timing=timing) as (supervisor, events):
        await eventually(lambda: log.exists() and "ready" in log.read_text())
        pids = [supervisor.pid(name) or 0 for name in ("a", "b")]
    assert [event.name for event in events if event.kind == "killed"] == ["a"]
    assert not any(map(alive, pids))


async def test_healing_goes_on_after_it_failed() -> None:
    calls = []

    def heal() -> None:
        calls.append(1)
        raise OSError("disk full")

    async with running(Child("a", SLEEPER), heal=heal) as (_, events):
        await eventually(lambda: len(calls) >= 3)
    assert {event.reason for event in events if event.kind == "heal_failed"} == {"disk full"}


SUPERVISE = """
import asyncio, signal, sys
from nexusrag.cli.supervise import Child, Supervisor, Timing
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and stays so
stubborn = ("/bin/sh", "-c", "trap '' TERM INT HUP; echo ready >&2; while :; do sleep 0.05; done")
children = [Child("a", ("/bin/sh", "-c", "exec sleep 600")), Child("b", stubborn)]
supervisor = Supervisor(children, timing=Timing(grace=float(sys.argv[1])), on_event=lambda event: print(event.kind, event.pid, flush=True))
asyncio.run(supervisor.run())
print("over", flush=True)
"""


def supervise(grace: float) -> tuple[subprocess.Popen[str], list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(grace)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child_environment()
    )
    assert process.stdout is not None and process.stderr is not None
    pids = [int(process.stdout.readline().split()[1]) for _ in range(2)]
    assert process.stderr.readline() == "ready\n"
    return process, pids


def test_children_die_with_a_supervisor_that_was_killed() -> None:
    process, pids = supervise(60)
    until(lambda: Path(f"/proc/{pids[0]}/comm").read_text() == "sleep\n")
    process.kill()
    process.communicate()
    until(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_in_good_order(number: signal.Signals) -> None:
    process, pids = supervise(0.1)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert output.split("\n") == [f"stopped {pids[0]}", f"stopped {pids[1]}", f"killed {pids[1]}", "over", ""]
    assert process.returncode == 0 and not any(map(alive, pids))


def test_a_second_signal_does_not_wait_for_the_grace() -> None:
    process, pids = supervise(600)
    assert process.stdout is not None
    process.send_signal(signal.SIGINT)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert output.endswith(f"killed {pids[1]}\nover\n")
    assert not any(map(alive, pids))


WATCH = "import sys; sys.path.insert(0, sys.argv[1]); import tether; sys.exit(tether.watch(['/bin/sh', '-c', sys.argv[2]]))"
WRAPPER = (sys.executable, "-I", "-S", "-c", WATCH, str(Path(tether.__file__).parent))


def test_where_the_kernel_offers_nothing_the_wrapper_watches_its_parent() -> None:
    argv = [*WRAPPER, "echo $$; exec sleep 600"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as wrapper:
        assert wrapper.stdin is not None and wrapper.stdout is not None
        pid = int(wrapper.stdout.readline())
        assert alive(pid)
        wrapper.stdin.close()
        until(lambda: not alive(pid))
    assert wrapper.returncode == 128 + signal.SIGKILL


def test_the_wrapper_passes_signals_and_exit_codes_on() -> None:
    argv = [*WRAPPER, "trap 'exit 7' TERM; echo; while :; do sleep 0.02; done"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as wrapper:
        assert wrapper.stdout is not None
        wrapper.stdout.readline()
        wrapper.terminate()
        assert wrapper.wait(20) == 7
