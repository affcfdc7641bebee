"""The chat in the terminal, and the runtimes under it."""

import contextlib
import io
import json
import math
import os
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from slm import locks
from slm.inference.engine import Engine
from slm.inference.sampling import Settings
from slm.local import chat as terminal
from slm.local import runtime
from slm.local.runtime import Jax, LlamaCpp, RuntimeConfig
from slm.text import chat
from slm.text.tokenizer import END_OF_TURN
from tests.local.conftest import MODEL

GREEDY = Settings(max_tokens=10, temperature=0.0)
SAMPLED = Settings(max_tokens=40, temperature=1.0, seed=3)
QUESTION = [{"role": "user", "content": "糖尿病とは"}]


@pytest.fixture(scope="module")
def llama(exported):
    return runtime.load(RuntimeConfig(str(exported)))


class Echo:
    """A stand-in: it says how long a prompt it was given."""

    name, context = "echo", 64

    def __init__(self, tokenizer):
        self.tokenizer, self.prompts = tokenizer, []

    def stream(self, prompt, settings):
        self.prompts.append(list(prompt))
        yield from ("答え", str(len(self.prompts)))


def test_pieces_of_a_stream_are_the_answer_of_ours(llama, params, words):
    prompt = chat.encode(words, QUESTION, reply=True).ids
    ids, = Engine(params, MODEL).generate([prompt], 10, GREEDY, words.special(END_OF_TURN))
    pieces = list(llama.stream(prompt, GREEDY))
    assert "".join(pieces) == words.decode(ids).rstrip("\ufffd") and len(pieces) > 3


def test_a_seed_decides_and_a_stream_can_be_left(llama, words):
    prompt = chat.encode(words, QUESTION, reply=True).ids
    once = "".join(llama.stream(prompt, SAMPLED))
    begun = llama.stream(prompt, SAMPLED)
    next(begun)
    begun.close()
    assert "".join(llama.stream(prompt, SAMPLED)) == once
    assert "".join(llama.stream(prompt, Settings(max_tokens=40, temperature=1.0, seed=4))) != once
    with pytest.raises(ValueError, match="exceeds the available context size"):
        list(llama.stream(prompt * 100, GREEDY))


PROBABILITIES = {"頭": 0.5, "胸": 0.3, "腹": 0.15, "腰": 0.05}


@pytest.fixture(scope="module")
def both(products, words, params, tmp_path_factory):
    """A model that always answers with these probabilities, in both runtimes."""
    pytest.importorskip("xllamacpp")
    from slm.export import gguf
    head = np.full_like(params["head"], -40 / MODEL.width)
    for text, probability in PROBABILITIES.items():
        index, = words.encode(text)
        head[:, index] = math.log(probability) / MODEL.width
    fixed = jax.tree.map(np.zeros_like, params) | {
        "embedding": np.ones_like(params["embedding"]), "head": head, "final_norm": {"scale": np.ones(MODEL.width, "f4")}}
    folder = tmp_path_factory.mktemp("fixed")
    gguf.write(folder / "fixed.gguf", fixed, MODEL, words, "f32", "fixed")
    return LlamaCpp(folder / "fixed.gguf", words), Engine(fixed, MODEL)


@pytest.mark.parametrize("settings, drawn", [
    ({"temperature": 2.0, "top_p": 0.75}, "頭胸腹"), ({"temperature": 0.5, "top_p": 0.75}, "頭胸"),
    ({"temperature": 2.0, "top_p": 0.75, "top_k": 2}, "頭胸"), ({"temperature": 2.0, "top_p": 1.0}, "頭胸腹腰"),
    ({"temperature": 0.0, "top_p": 0.75}, "頭"), ({"temperature": 1.0, "top_p": 0.9, "top_k": 3}, "頭胸腹")])
def test_both_runtimes_draw_from_the_same_nucleus(settings, drawn, both, words):
    llama, engine = both
    draws = 60
    theirs = ["".join(llama.stream([words.end_of_document], Settings(max_tokens=1, seed=seed, **settings)))
              for seed in range(draws)]
    assert set(theirs) == set(drawn)
    ids = engine.generate([[words.end_of_document]] * draws, 1, Settings(max_tokens=1, **settings), end=-1)
    assert {words.decode(row) for row in ids} == set(drawn)


def test_the_context_of_the_config_is_what_the_model_gets(exported, words):
    small = LlamaCpp(exported / "tiny-f32.gguf", words, context=40)
    settings = Settings(max_tokens=100, temperature=1.0)
    prompt = [words.end_of_document, *words.encode("患者は発熱と咳嗽を訴えた。")]
    assert small.request(prompt, settings)["max_tokens"] == 40 - len(prompt)
    assert small.request([2] * 39, settings)["max_tokens"] == 1
    for count in (40, 41, 300):
        with pytest.raises(ValueError, match=f"has {count} tokens, which exceeds the available context size of 40"):
            list(small.stream([2] * count, settings))
    for wrong in (MODEL.context + 1, -1):
        with pytest.raises(ValueError, match=f"runtime.context={wrong} and the model's context of {MODEL.context} conflict"):
            LlamaCpp(exported / "tiny-f32.gguf", words, context=wrong)


def test_the_model_is_found(exported, tmp_path, monkeypatch):
    file = exported / "tiny-f32.gguf"
    assert runtime.find(str(exported)) == runtime.find(str(file)) == file
    for name, size in (("large", 5_000), ("small", 50)):
        (tmp_path / f"{name}.gguf").write_bytes(file.read_bytes()[:size])
    assert runtime.find(str(tmp_path)).name == "small.gguf"
    for wrong, message in ((tmp_path / "small.gguf", "is not a GGUF file with a context length"),
                           (tmp_path / "large.gguf", "llama.cpp could not load .*cut short")):
        with pytest.raises((ValueError, RuntimeError), match=message):
            LlamaCpp(wrong, None)
    with pytest.raises(FileNotFoundError, match=r"configs/export.py:gguf"):
        LlamaCpp(tmp_path / "none.gguf", None)
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(RuntimeError, match=r"pip install 'slm\[local\]'"):
        LlamaCpp(file, None)


def test_a_model_is_closed_before_it_was_asked_anything(exported):
    for _ in range(3):
        LlamaCpp(exported / "tiny-f32.gguf", None)


def test_a_talk_remembers_and_forgets_the_oldest(words):
    model, said = Echo(words), []
    talk = terminal.ChatSession(model, GREEDY, system="医師")
    assert talk.ask("一", said.append) == "答え1" and "".join(said) == "答え1\n"
    talk.ask("二", said.append)
    assert [own["content"] for own in talk.messages] == ["医師", "一", "答え1", "二", "答え2"]
    assert model.prompts[1] == chat.encode(words, talk.messages[:4], reply=True).ids
    for _ in range(6):
        talk.ask("次の質問", said.append)
    assert max(map(len, model.prompts)) <= model.context - GREEDY.max_tokens
    assert model.prompts[-1][:4] == model.prompts[0][:4]  # the system turn stays
    with pytest.raises(ValueError, match=r"the question has more than 54 tokens, .*context of 64"):
        talk.ask("患者" * 60, said.append)
    assert talk.messages[-1]["role"] == "assistant"  # what did not fit was not kept


def test_an_answer_that_is_stopped_is_kept_as_far_as_it_went(words):
    def say(piece):
        if piece == "1":
            raise KeyboardInterrupt
    talk = terminal.ChatSession(Echo(words), GREEDY)
    assert talk.ask("一", say) == "答え1"
    assert len(talk.messages) == 2


def test_commands(words, tmp_path, monkeypatch, capsys):
    file = tmp_path / "talk.jsonl"
    lines = ["一", "/set temperature=0.5", "/settings", "/again", "/undo", "/undo", "/what", "/set heat=1",
             "/set top_k=many", "/set top_p=7", "/save", "二", f"/save {file}", "/system 医師", "/help", "/exit", "三"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
    talk = terminal.ChatSession(Echo(words), GREEDY)
    terminal._loop(talk, "> ")
    printed = capsys.readouterr().out
    assert "temperature=0.5" in printed and talk.settings.seed == 1 and talk.turns == 3
    assert printed.count("removed\n") == 1 and "nothing to remove" in printed
    for message in ("this is not a command", "this is not a setting", "top_k takes a value of type int", "top_p is in (0, 1]",
                    "/save needs the name", "/exit           leave"):
        assert message in printed
    assert json.loads(file.read_text()) == {"messages": [{"role": "user", "content": "二"},
                                                         {"role": "assistant", "content": "答え3"}]}
    assert talk.messages == [{"role": "system", "content": "医師"}]


def test_what_fails_is_said_and_takes_nothing_back(words, llama, monkeypatch):
    talk = terminal.ChatSession(Echo(words), GREEDY)
    talk.ask("一", lambda piece: None)
    before = list(talk.messages)

    def fail(prompt, settings):
        raise ValueError("no room")
    monkeypatch.setattr(talk.model, "stream", fail)
    with pytest.raises(ValueError, match="no room"):
        terminal.command(talk, "/again")
    assert talk.messages == before

    def broken(request, on_chunk):
        raise RuntimeError("患者")
    monkeypatch.setattr(llama, "complete", broken)
    with pytest.raises(ValueError, match=r"the computation failed \(RuntimeError\)$"):
        list(llama.stream([2], GREEDY))


def test_one_question_on_llama_cpp_without_jax(exported, tmp_path):
    code = ("import sys\nfrom slm.main import run\ntry:\n    run()\nfinally:\n    print('jax' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, "--config=configs/chat.py", f"--config.runtime.model={exported}",
                           "--config.settings.max_tokens=5", f"--workdir={tmp_path}"], input="糖尿病とは\n",
                          capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False" and len(done.stdout) > 8
    assert not any("糖尿病" in path.read_text() for path in tmp_path.iterdir())


def in_a_terminal(exported, workdir, typed):
    """The chat's result after `typed`, a list of bursts of bytes, each sent once the chat asks."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "slm.main", "--config=configs/chat.py", f"--config.runtime.model={exported}",
         "--config.settings.max_tokens=2", "--config.system=患者は田中様です", f"--workdir={workdir}"],
        stdin=secondary, stdout=secondary, stderr=secondary, cwd=Path(__file__).parents[2], env=os.environ | {"TERM": "xterm"})
    os.close(secondary)
    screen = b""
    for burst in [*typed, b"/exit\n"]:
        before = len(screen)
        while b"> " not in screen[before:]:
            screen += os.read(primary, 4096)
        os.write(primary, burst)
    with contextlib.suppress(OSError):  # the terminal is gone
        while part := os.read(primary, 4096):
            screen += part
    os.close(primary)
    assert process.wait(20) == 0, screen.decode(errors="replace")
    return json.loads((workdir / "result.json").read_text())


NOTE = "主訴：頭痛\n\n現病歴：3日前から\n/exit\n発熱なし"


@pytest.mark.parametrize("typed", [[NOTE.encode() + b"\n"], [b"\x1b[200~" + NOTE.encode() + b"\x1b[201~\n"]],
                         ids=["lines", "bracketed"])
def test_a_pasted_note_is_one_message(typed, exported, tmp_path):
    assert in_a_terminal(exported, tmp_path / "run", [*typed, f"/save {tmp_path / 'talk.jsonl'}\n".encode()])["turns"] == 1
    system, question, _ = json.loads((tmp_path / "talk.jsonl").read_text())["messages"]
    assert (system["role"], question["content"]) == ("system", NOTE)
    config = (tmp_path / "run" / "config.json").read_text()
    assert "田中" not in config and "not kept" in config


def test_nothing_is_left_in_the_folder_of_temporary_files(exported, words, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name, age in (("killed", 300), ("loading", 300), ("new", 1)):
        (tmp_path / f"slm-llama-{name}").mkdir()
        (tmp_path / f"slm-llama-{name}" / "llama.sock").touch()
        os.utime(tmp_path / f"slm-llama-{name}", (time.time() - age,) * 2)
    with locks.locked(tmp_path / "slm-llama-loading"):
        model = LlamaCpp(exported / "tiny-f32.gguf", words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slm-llama-loading", "slm-llama-new"]
    for name in ("loading", "new"):
        shutil.rmtree(tmp_path / f"slm-llama-{name}")
    assert list(model.stream([2], GREEDY))
    (tmp_path / "no.gguf").write_bytes((exported / "tiny-f32.gguf").read_bytes()[:5000])
    with pytest.raises(RuntimeError, match="could not load"):
        LlamaCpp(tmp_path / "no.gguf", words)
    assert [path.name for path in tmp_path.iterdir()] == ["no.gguf"]


def test_threads_leave_room_on_a_busy_machine(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    for load, threads in ((0.2, 8), (2.6, 5), (30.0, 4)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert runtime._idle_cores() == threads


def test_the_jax_decoder_where_there_is_no_gguf(monkeypatch, params, words):
    monkeypatch.setattr(Engine, "load", lambda workdir, step: (Engine(params, MODEL), words))
    model = Jax("somewhere")
    prompt = chat.encode(words, QUESTION, reply=True).ids
    ids, = Engine(params, MODEL).generate([prompt], 10, GREEDY, words.special(END_OF_TURN))
    assert "".join(model.stream(prompt, GREEDY)) == words.decode(ids)
    with pytest.raises(ValueError, match="begin a new one"):
        list(model.stream(prompt * 100, GREEDY))
