"""Ctrl-C and SIGTERM while training: the step in progress is finished and a checkpoint written."""

import contextlib
import signal
import threading


class Interrupted(Exception):
    """A signal ended the work; everything worth keeping is written.

    Attributes:
        number: of the signal. The shell's convention for the exit code is 128 + number.
    """

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number


@contextlib.contextmanager
def noted_signals():
    """Inside, the first SIGINT or SIGTERM is only noted: yields a list that then holds its number.

    A second one acts as usual. Outside of the main thread, where Python allows no handlers, nothing changes.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _frame) -> None:
        noted.append(number)
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        restore()
