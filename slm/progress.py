"""Progress with rate and time left: a bar in a terminal, plain lines elsewhere."""

import sys

from tqdm import tqdm

_LINE_SECONDS = 30.0


class Progress(tqdm):
    """tqdm; where the error output is no terminal (a log, a pipe), a line when it begins and ends and two a minute."""

    def __init__(self, *args, **kwargs):
        self._lines = 0
        self._plain = not sys.stderr.isatty()
        if self._plain:
            kwargs |= {"mininterval": _LINE_SECONDS, "miniters": 1, "bar_format":
                       "{desc}: {n_fmt} of {total_fmt} {unit}, {rate_fmt}, {remaining} left"}
        super().__init__(*args, **kwargs)

    def display(self, msg=None, pos=None):
        if not self._plain:
            return super().display(msg, pos)
        self.fp.write("\n" * bool(self._lines) + str(self))  # closing it ends the last line
        self.fp.flush()
        self._lines += 1
        return True
