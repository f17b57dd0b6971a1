"""LogFile: a file that lines are appended to, and that may be moved away meanwhile, as logrotate does.

The file that stands at the path is looked at before each writing: another one, or none, is opened anew. So rotating it
takes no signal and no restart. Only LineWriter's thread calls it.
"""

import os
import stat
from typing import Final

from ..errors import ConfigurationError
from .line_writer import Cut

MODE: Final = 0o640  # paths, names and claims are nobody else's business
# Nothing waits, not even for somebody to read a FIFO.
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)


class LogFile:
    """The regular file at `path`, which is made when it is not there; its folder has to be. Raises
    `ConfigurationError` when it cannot be written."""

    def __init__(self, path: os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)  # the process may change its directory
        self._midline = False
        try:
            self._file = _opened(self.path)
        except OSError as exc:
            raise ConfigurationError(f"access log: cannot write {os.fspath(path)} ({type(exc).__name__})") from None
        except NotRegular:
            raise ConfigurationError(f"access log: {os.fspath(path)} is no regular file") from None

    def write(self, text: str) -> None:
        """Append whole lines. Raises `Cut` when only some could be, as on a full disk, else OSError."""
        self._follow()
        data = memoryview(("\n" if self._midline else "").encode() + text.encode("utf-8", "backslashreplace"))
        start = int(self._midline)
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError as exc:
            whole = bytes(data[start:written]).count(b"\n")
            if written:
                self._midline = data[written - 1] != 0x0A
            raise Cut(whole, exc.errno) from None
        self._midline = False

    def flush(self) -> None:
        """Nothing is kept back."""

    def _follow(self) -> None:
        """Open the file that now stands at the path, if it is another one. One that cannot be opened leaves us with
        the one that we have, as long as that still has a name."""
        ours = os.fstat(self._file)
        try:
            there = os.stat(self.path)
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
        except OSError:
            pass  # moved away or removed: opening it makes it, or says why not
        try:
            opened = _opened(self.path)
        except (OSError, NotRegular) as exc:
            if not ours.st_nlink:  # what is written there, nobody will read
                raise Cut(0, exc.errno if isinstance(exc, OSError) else None) from None
            return
        os.close(self._file)
        self._file, self._midline = opened, False

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            os.close(file)


class NotRegular(Exception):
    """A folder, a device or a FIFO."""


def _opened(path: str) -> int:
    file = os.open(path, _FLAGS, MODE)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise NotRegular
    return file
