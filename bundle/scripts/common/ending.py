"""The end that a signal asked for, kept where no library can lose it.

A handler of signals ends a run by an exception. It comes up wherever the process is. In compiled code, h5py's for one, it may
become another error, which looks as if a file were damaged. In a finalizer it is dropped, and the run goes on.
"""

_asked: BaseException | None = None


def ask_to_end(end: BaseException) -> None:
    """Remember what ends this process."""
    global _asked
    _asked = end


def forget_end() -> None:
    """Begin as if no end had been asked for."""
    global _asked
    _asked = None


def asked_end() -> BaseException | None:
    """What is to end this process, if anything."""
    return _asked


def go_on_or_end() -> None:
    """Go on, if no end was asked for.

    Raises:
        KeyboardInterrupt: Ctrl-C asked for it.
        SystemExit: SIGTERM did.
    """
    if _asked is not None:
        raise _asked
