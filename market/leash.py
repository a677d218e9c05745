"""Child processes that cannot outlive the process that started them.

A supervisor that is killed with SIGKILL runs no clean-up, so its children must notice by
themselves. Linux has a signal for it (`PR_SET_PDEATHSIG`), but one that follows the *thread* that
forked. Everywhere else, and off the main thread, a guard process stands in between: this file, run
as a script. It holds the reading end of a pipe whose other end only the supervisor has, and ends
its child when that pipe closes.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

ON_LINUX: bool = sys.platform == "linux"
PR_SET_PDEATHSIG = 1
GUARD_GRACE_S = 20.0

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)


class Leashed:
    """A started child, leader of a session of its own, which is why a whole group can be ended."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        # In guard mode this is the guard, and the open end of its pipe is `process.stdin`.
        self._process = process

    @property
    def pid(self) -> int:
        """The child, or its guard where one stands in between; the leader of the group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """As `subprocess` has it: negative for a signal, None while the child runs."""
        return self._process.poll()

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the child alone; one that has ended already is left in peace."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Whether the child has ended within the time."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        if self._process.stdin is not None:
            self._process.stdin.close()
        return True

    def kill_group(self) -> None:
        """SIGKILL for the child and every grandchild that stayed in its group."""
        # Nothing may be left in the group; macOS says EPERM of it while a zombie leads it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.wait(10.0)


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    output: BinaryIO | int,
    death_signal: signal.Signals,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
    uid: int | None = None,
    gid: int | None = None,
) -> Leashed:
    """Start a child that gets `death_signal` when this process ends, however it ends.

    Output and errors go to one file; standard input is empty. With a user id, the child runs as
    that user, in no group but the given one.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    groups: list[int] | None = None if uid is None else []
    if ON_LINUX and in_main_thread:
        return Leashed(
            subprocess.Popen(
                list(argv),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
                user=uid,
                group=gid,
                extra_groups=groups,
                preexec_fn=_ask_for_death_signal(death_signal),
            )
        )
    who = f"{-1 if uid is None else uid}:{-1 if gid is None else gid}"
    guard = [sys.executable, "-I", "-S", __file__, str(int(death_signal)), who, "--", *argv]
    return Leashed(
        subprocess.Popen(
            guard,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=tuple(pass_fds),
        )
    )


def _ask_for_death_signal(death_signal: signal.Signals) -> Callable[[], None]:
    # The library is opened before the fork: between fork and exec as little as possible happens.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        # The parent may have died before the request was made; then no signal will ever come.
        if os.getppid() != parent:
            os._exit(1)

    return ask


def _guard(argv: Sequence[str]) -> int:
    """Run the child, forward signals to it, and end it when standard input closes."""
    death_signal, who, command = signal.Signals(int(argv[0])), argv[1], list(argv[3:])
    uid, gid = (None if part == "-1" else int(part) for part in who.split(":"))
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    received: list[int] = []
    for number in _FORWARDED:
        signal.signal(number, lambda got, _frame: received.append(got))
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        # Inheritable descriptors, the web's socket, pass through the guard to the child.
        close_fds=False,
        user=uid,
        group=gid,
        extra_groups=None if uid is None else [],
    )
    while child.poll() is None:
        readable, _, _ = select.select([0, wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 64)
        while received:
            child.send_signal(received.pop(0))
        if 0 in readable and not os.read(0, 64):
            child.send_signal(death_signal)
            with suppress(subprocess.TimeoutExpired):
                child.wait(GUARD_GRACE_S)
            # Whatever the child started goes with it, and so does this guard, the group's leader.
            os.killpg(0, signal.SIGKILL)
    if child.returncode < 0:
        # Die of what the child died of, so that the supervisor reads the true cause.
        cause = signal.Signals(-child.returncode)
        if cause not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(cause, signal.SIG_DFL)
        os.kill(os.getpid(), cause)
    return child.returncode


if __name__ == "__main__":
    sys.exit(_guard(sys.argv[1:]))
