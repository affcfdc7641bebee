"""Progress where there is no terminal."""

import time

from slm import progress
from slm.progress import Progress


def test_plain_lines_without_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.02)
    for _ in Progress(range(5), desc="count", unit="shard"):
        time.sleep(0.03)
    told = capsys.readouterr().err
    lines = told.splitlines()
    assert lines[0].startswith("count: 0 of 5 shard, ") and lines[-1].startswith("count: 5 of 5 shard, ")
    assert 3 < len(lines) < 9 and all(line.endswith(" left") for line in lines)
    assert told.endswith("\n") and "\r" not in told and "\x1b" not in told


def test_few_lines_of_much_work(capsys):
    with Progress(total=10_000, desc="annotate", unit="record") as bar:
        for _ in range(10_000):
            bar.update()
    assert len(capsys.readouterr().err.splitlines()) == 2
