"""The commands of both READMEs, run one after the other as a newcomer would, on the debug preset."""

import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from slm import sample
from slm.tasks import tables

ROOT = Path(__file__).parents[1]
# What makes a job small; the first is put in the place of the variant, if there is none.
SMALL = {
    "pretrain": (":debug", ["--config.train.steps=4", "--config.train.evaluate_every=4", "--config.model.context=512"]),
    "corpus": ("", []), "sft": ("", ["--config.train.steps=2", "--config.train.evaluate_every=2", "--config.epochs=0"]),
    "evaluate": ("", []), "export": ("", ["--config.text_tokens=100", "--config.prompts=2"]),
    "chat": ("", ["--config.settings.max_tokens=8"]), "serve": ("", ["--config.port={port}"]),
    "annotate": ("", ["--config.settings.max_tokens=16"]), "plan": ("", []),
}


def commands() -> list[str]:
    """Each that is written in full, once."""
    found = {}
    for page in ("README.md", "README.ja.md"):
        text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"(?:^|`)(python -m slm\.main --config=configs/[a-z_]+\.py[^\n`#]*)", text, re.MULTILINE):
            found[" ".join(line.split())] = None
    return list(found)


def write_what_they_name(folder: Path) -> None:
    documents = list(sample.documents(0.4, seed=0))
    (folder / "DIR").mkdir()
    (folder / "MORE").mkdir()
    with gzip.open(folder / "DIR" / "text.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in documents)
    (folder / "MORE" / "text.txt").write_text(documents[0]["text"], encoding="utf-8")
    turns = [{"messages": [{"role": "user", "content": f"{i}回目の質問です。"},
                           {"role": "assistant", "content": "はい。"}]} for i in range(40)]
    (folder / "DIR" / "talk.jsonl").write_text("".join(json.dumps(own, ensure_ascii=False) + "\n" for own in turns))
    rows = ["question,optionA,optionB,answer"] + [f"発熱{i}日,軽い,重い,{'AB'[i % 2]}" for i in range(6)]
    (folder / "test.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "RECORDS.csv").write_text("text\n発熱があり肺炎と診断された。\n頭痛なし。\n", encoding="utf-8")
    assert len(tables.read(folder / "test.csv", "choice")) == 6


def test_both_readmes_have_the_same_commands():
    own, japanese = (set(re.findall(r"configs/[a-z_]+\.py(?::\w+)?", (ROOT / page).read_text(encoding="utf-8")))
                     for page in ("README.md", "README.ja.md"))
    assert own == japanese and len(commands()) >= 10


@pytest.mark.slow
def test_every_command_runs(tmp_path):
    folder = tmp_path / "新しい フォルダ"  # with a space, as people have them
    folder.mkdir()
    write_what_they_name(folder)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    for command in commands():
        job, variant = re.search(r"configs/(\w+)\.py(:[\w,=\-]+)?", command).groups()
        replaced, flags = SMALL[job]
        if not variant and replaced:
            command = command.replace(f"configs/{job}.py", f"configs/{job}.py{replaced}")
        command = command.replace("plan.py:ncvc_slm_1", "plan.py:small")  # the same, in less time
        command = command.replace("病名.txt.gz,薬品名.txt", "sample").replace("DISEASES.txt.gz,DRUGS.txt", "sample")
        port = 8123 + os.getpid() % 1000
        arguments = [sys.executable, *shlex.split(command)[1:], *(flag.format(port=port) for flag in flags)]
        if job == "serve":
            serve(arguments, folder, environment, port)
            continue
        done = subprocess.run(arguments, cwd=folder, env=environment, input="糖尿病とは\n", capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr[-2000:])


def serve(arguments, folder, environment, port) -> None:
    process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5) as answer:
                    assert json.load(answer)["data"]
                    return
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        raise AssertionError("the server did not answer")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
