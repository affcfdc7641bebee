"""A rare word is planted in odd inputs of the jobs that need a model; see tests/test_planted_word.py."""

import dataclasses
import functools
import json
import shutil

import jax
import pytest

from slm.checkpoint import Checkpoints
from slm.export import gguf, hugging_face
from slm.model import decoder
from slm.model.presets import PRESETS
from tests import planted
from tests.planted import LATIN, PRINTED, WORD, Case, Content, W, check, rows, table

pytestmark = pytest.mark.slow
MODEL = dataclasses.replace(PRESETS["debug"], layers=1, head_size=16, query_heads=4, kv_heads=2, context=512)
SURROGATE = '"' + W + '\\ud800"'  # half a character, as JSON
COLUMNS = ("tag", "question", "optionA", "optionB", "answer")
CHOICE = table(COLUMNS, *([WORD, f"{W}{number}", WORD, "なし", "AB"[number % 2]] for number in range(20)))
EXTRACTION = table(("tag", "question", "answer"), *(
    ["d", f"{number}\n「{number}{W}」", f"['{WORD}']"] for number in range(20)))


# Fine-tuning --------------------------------------------------------------------------------------------------

def talk(question: object = W, answer: object = W, **more) -> dict:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer} | more]}


def sft(name: str, kind: str, content: Content, says: str, more: str = "", files=None, **rest) -> Case:
    file = "in/a.csv" if kind in ("choice", "extraction") else "in/a.jsonl"
    return Case(f"sft: {name}", f"configs/sft.py:{kind} --config.checkpoint={{model}} --config.sets.own.files={file} {more}".strip(),
                {file: content, **(files or {})}, says, **rest)


SHORT = ("--config.epochs=0 --config.train.steps=2 --config.train.evaluate_every=1 --config.train.save_every=1 "
         "--config.batch_size=8 --config.validation_share=0.3")
JMED = ("jmmlu_med", "crade", "rrtnm", "smdis", "jcsts", "mrner_disease", "mrner_medicine", "nrner")
SETS = ("JMMLU-Med", "CRADE", "RRTNM", "SMDIS", "JCSTS", "CRNER", "RRNER", "NRNER")
BENCHMARK = {f"in/jmed/datasets/{name}.csv": EXTRACTION if "ner" in name else CHOICE for name in JMED} | {
    f"in/jmed/datasets/all/{name}.csv": (EXTRACTION if "NER" in name else CHOICE).replace("\nd,", f"\n{WORD},") for name in SETS}
SFT = [
    sft("a torn line", "messages", rows(talk())[:-9], "line 1 is not JSON"),
    sft("an unknown role", "messages", rows({"messages": [{"role": WORD, "content": W}]}), "line 1: a message has an unknown role"),
    sft("swapped fields", "messages", rows({"messages": [{"role": W, "content": "user"}]}), "line 1: a message has an unknown role"),
    sft("content of another type", "messages", rows(talk([{"text": W}])), "line 1: a message is"),
    sft("messages that are a text", "messages", rows({"messages": W, WORD: W}), "line 1: a conversation is"),
    sft("a tool's call", "messages", rows(talk(tool_calls=[W])), "line 1: tool calls are not supported"),
    sft("an odd weight", "messages", rows(talk(weight=WORD)), "has a weight of type str"),
    sft("no answer", "messages", rows({"messages": [{"role": "user", "content": W}]}), "has no assistant turn"),
    sft("empty answers", "messages", rows(talk(answer=" "), talk(answer="")), "has no answer to learn from"),
    sft("half a character", "messages", '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": '
        + SURROGATE + "}]}\n", "line 1 has half a character"),
    sft("too long a conversation", "messages", rows(*(talk(str(number), W * 200) for number in range(60))), "a conversation of .* does not fit"),
    sft("one conversation", "messages", rows(talk()), "held out|holds out no conversation"),
    sft("other types", "alpaca", rows({"instruction": W, "output": [W]}), "line 1 has no Alpaca record"),
    sft("other columns", "alpaca", rows({WORD: W}), "line 1 has no Alpaca record"),
    sft("an answer that is no letter", "choice", table(COLUMNS, ["", W, "x", "y", WORD]), "row 0 has an answer of 4 characters"),
    sft("entities that are no list", "extraction", table(COLUMNS, ["", W, "", "", W]), "which is not a Python list"),
    sft("a test document", "messages", rows(talk("0「0" + W + "」")), "3 training conversations hold test documents",
        "--config.jmed_llm.data_dir=in/jmed", BENCHMARK),
    Case("sft: short lists", "configs/sft.py:notes --config.checkpoint={model} --config.sets.notes.files=in/a.txt,in/b.txt",
         {"in/a.txt": f"{WORD}病\n", "in/b.txt": f"{WORD}錠\n"}, "the lists of 1 diseases and 1 drugs hold"),
    Case("sft: a benchmark's tags", "configs/sft.py:notes --config.checkpoint={model} --config.sets.notes.files=in/a.txt,in/b.txt "
         "--config.protocol=P1 --config.jmed_llm.data_dir=in/jmed", {"in/a.txt": "肺炎\n", "in/b.txt": "薬錠\n", **BENCHMARK,
            "in/jmed/datasets/nrner.csv": table(COLUMNS, ["", "別", "", "", "[]"])}, "the tags are d, "),
    sft("two steps", "messages", rows(*(talk(f"{W}{number}") for number in range(60))), "validation loss", SHORT, ends_well=True),
]


# Annotation ---------------------------------------------------------------------------------------------------

ANNOTATE = ("--config.runtime.model={gguf} --config.runtime.threads=1 --config.settings.max_tokens=8 "
            "--config.text_column=body --config.id_column=number")
ANNOTATIONS = ("run/annotations.jsonl",)


def annotate(name: str, file: str, content: Content, says: str, more: str = "", files=None, **rest) -> Case:
    columns = ANNOTATE if not file.endswith(".txt") else ANNOTATE[:ANNOTATE.index(" --config.text_column")]
    return Case(f"annotate: {name}", f"configs/annotate.py:summarise {columns} --config.records=in/{file} {more}".strip(),
                {f"in/{file}": content, **(files or {})}, says, **rest)


def instruction(name: str, content: object, says: str) -> Case:
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return annotate(f"instruction: {name}", "r.txt", W, says, "--config.instruction.file=in/i.json", {"in/i.json": text})


RECORDS = table(("number", "body"), *([f"{WORD}{number}", f"{W}{number}"] for number in range(4)))
LINE = {"id": "x", "sha256": "x", "by": WORD, "cut_tokens": 0}
ANNOTATION = [
    annotate("a row as header", "r.csv", table([WORD, W]), "has 0 columns 'body' among the 2"),
    annotate("a column twice", "r.csv", table(["number", "body", "body", WORD], [W] * 4), "has 2 columns 'body'"),
    annotate("a row too long", "r.csv", RECORDS + table([WORD, W, W]), r"row 5 \(line 6\) has 3 fields"),
    annotate("an open quote", "r.csv", RECORDS + f'{WORD},"{W}', "row 5 .* cannot be read as CSV"),
    annotate("an id twice", "r.csv", RECORDS + table([f"{WORD}0", W]), "row 5 has the id of in/r.csv, row 1"),
    annotate("an empty record", "r.csv", table(["number", "body"], [WORD, " "]), "row 1 is empty"),
    annotate("no id", "r.csv", table(["number", "body"], ["", W]), "row 1 has no id"),
    annotate("a text of another type", "r.jsonl", rows({"number": WORD, "body": [W]}), "line 1 has no text in 'body'"),
    annotate("an id of another type", "r.jsonl", rows({"number": [WORD], "body": W}), "line 1 has no text or integer in 'number'"),
    annotate("half a character", "r.jsonl", '{"number": "1", "body": ' + SURROGATE + "}\n", "line 1 is not UTF-8"),
    annotate("EUC-JP", "r.txt", f"{WORD}、咳嗽、発熱、頭痛\n".encode("euc_jp"), "may be EUC-JP"),
    annotate("too long a record", "r.txt", W * 40_000, "more than 1,000,000: split it"),
    annotate("another file in the workdir", "r.csv", RECORDS, "line 1 is not an annotation",
             files={"run/annotations.jsonl": rows({"text": W})}, holds=ANNOTATIONS),
    annotate("lines of another run", "r.csv", RECORDS, "line 1 was written by",
             files={"run/annotations.jsonl": rows(LINE)}, holds=ANNOTATIONS),
    annotate("a torn line in the workdir", "r.csv", RECORDS, "annotate: ", files={"run/annotations.jsonl": f'{{"id": "{W}'},
             holds=ANNOTATIONS, ends_well=True),
    annotate("an array in the workdir", "r.csv", RECORDS, "line 1 is not an annotation",
             files={"run/annotations.jsonl": rows([W])}, holds=ANNOTATIONS),
    annotate("a folder", "n/r.txt", W, "in/n/x.pdf", files={"in/n/x.pdf": W}, ends_well=True),
    annotate("records", "r.csv", RECORDS, "annotate: ", holds=ANNOTATIONS, ends_well=True),
    annotate("records in CP932", "r.csv", RECORDS.encode("cp932"), "annotate: ", holds=ANNOTATIONS, ends_well=True),
    annotate("long records", "r.jsonl", rows({"number": WORD, "body": W * 200}), "annotate: ", holds=ANNOTATIONS, ends_well=True),
    instruction("no JSON", f'{{"prompt": "{W}', "is not JSON"),
    instruction("a list", [W], "in/i.json has .* of an instruction's keys"),
    instruction("another object", {"text": W, WORD: W}, "in/i.json has .* of an instruction's keys"),
    instruction("an unknown key", {"kind": "extract", "system": "", "prompt": W, WORD: W}, "in/i.json has .* of an instruction's keys"),
    instruction("an unknown kind", {"kind": WORD, "system": "", "prompt": "{text}"}, "error: in/i.json.(kind is unknown|system is a list)"),
    instruction("another type", {"kind": "extract", "system": [W], "prompt": "{text}"}, "error: in/i.json.(kind is unknown|system is a list)"),
    instruction("a record in its prompt", {"kind": "extract", "system": "", "prompt": W}, "write {text} exactly once"),
    instruction("labels without use", {"kind": "extract", "system": "", "prompt": "{text}", "labels": WORD}, "to classify and only then"),
    instruction("one label", {"kind": "classify", "system": "", "prompt": "{text}", "labels": f"{WORD}|{WORD}"}, "at least two"),
]
ANNOTATION[16] = dataclasses.replace(ANNOTATION[16], arguments=ANNOTATION[16].arguments.replace("in/n/r.txt", "in/n"))


# Chat and text ------------------------------------------------------------------------------------------------

CHAT = "configs/chat.py --config.settings.max_tokens=8 --config.settings.temperature=0 --config.runtime.threads=1"
GENERATE = "configs/generate.py:greedy --config.checkpoint={model} --config.new_tokens=4"
SAMPLES = ("run/samples.jsonl", PRINTED)  # the job prints and keeps prompts and texts
EVALUATE = "configs/evaluate.py:tables --config.checkpoint={model} --config.resamples=20 --config.tables.own.file=in/t.csv"
ANSWERS = ("run/answers/*",)
TEXT = "configs/evaluate.py:text --config.checkpoint={model} --config.corpus.files=in/a.jsonl"
MODELS = [
    Case("chat: llama.cpp", f"{CHAT} --config.runtime.model={{gguf}} --config.system={W}", {}, "None", stdin=f"{W}\n/again\n/undo\n", ends_well=True),
    Case("chat: JAX", f"{CHAT} --config.runtime.model={{model}}", {}, "None", stdin=f"/system {W}\n{W}\n", ends_well=True),
    Case("chat: odd commands", f"{CHAT} --config.runtime.model={{gguf}}", {}, "3 lines of the piped input failed",
         stdin=f"/{WORD} {W}\n/set {WORD}=1\n/set top_k={WORD}\n{W * 500}\n"),
    Case("chat: saved", f"{CHAT} --config.runtime.model={{gguf}}", {}, "written to saved.jsonl", ("saved.jsonl",),
         stdin=f"{W}\n/save saved.jsonl\n", ends_well=True),
    Case("generate: prompts", f"{GENERATE} --config.prompts={W}|x", {}, "→", SAMPLES, ends_well=True),
    Case("generate: a file", f"{GENERATE} --config.prompts_file=in/p.txt", {"in/p.txt": f"{W}\n"}, "→", SAMPLES, ends_well=True),
    Case("generate: CP932", f"{GENERATE} --config.prompts_file=in/p.txt", {"in/p.txt": W.encode("cp932")}, "UnicodeDecodeError in generate.py"),
    Case("generate: half a character", f"{GENERATE} --config.prompts_file=in/p.txt", {"in/p.txt": f"{W}\ud800"}, "UnicodeDecodeError in generate.py"),
    Case("evaluate: choices", EVALUATE, {"in/t.csv": CHOICE}, "own", ANSWERS, ends_well=True),
    Case("evaluate: constrained", f"{EVALUATE} --config.choice=constrained --config.tables.own.train_file=in/u.csv",
         {"in/t.csv": CHOICE, "in/u.csv": CHOICE.replace("様", "殿")}, "own", ANSWERS, ends_well=True),
    Case("evaluate: spans", f"{EVALUATE} --config.tables.own.kind=extraction --config.tables.own.train_file=in/u.csv",
         {"in/t.csv": EXTRACTION, "in/u.csv": EXTRACTION.replace("様", "殿")}, "own", ANSWERS, ends_well=True),
    Case("evaluate: spans that do not occur", f"{EVALUATE} --config.tables.own.kind=extraction --config.extraction=free",
         {"in/t.csv": EXTRACTION.replace(f"['{WORD}']", f"['{LATIN}']")}, "own", ANSWERS, ends_well=True),
    Case("evaluate: text", TEXT, {"in/a.jsonl": rows({"text": W, "id": WORD})}, "bits per byte", ends_well=True),
    Case("evaluate: half a character", TEXT, {"in/a.jsonl": '{"text": ' + SURROGATE + "}\n"}, "lone surrogate"),
    Case("evaluate: transformers", f"{EVALUATE.replace('checkpoint={model}', 'backend=hugging_face')} --config.model={{transformers}} "
         "--config.tables.own.kind=extraction --config.extraction=free", {"in/t.csv": EXTRACTION}, "own", ANSWERS, ends_well=True),
    Case("pretrain", "configs/pretrain.py:debug --config.corpus.files=sample,in/a.jsonl --config.train.steps=2 --config.train.save_every=1 "
         "--config.train.evaluate_every=1", {"in/a.jsonl": rows(*({"text": f"{W}{number}"} for number in range(60)))}, "step 2/2",
         ("runs/products/corpus-*/corpus-*.array_record*", "runs/products/segmented-*/*.array_record"), ends_well=True),
]
runner = planted.runner


@pytest.fixture(scope="module")
def model(products, words, tmp_path_factory):
    """The workdir of a training with random parameters, and `gguf/` in it with an export of the same."""
    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    folder = tmp_path_factory.mktemp("model")
    params = jax.jit(functools.partial(decoder.initialize, MODEL))(jax.random.key(0))
    saved = Checkpoints(folder / "checkpoints", keep=1)
    saved.save(1, {"params": params}, {"step": 1, "tokenizer": words.fingerprint, "config": {
        "model": dataclasses.asdict(MODEL), "seed": 0}}, None)
    saved.close()
    (folder / "gguf").mkdir()
    gguf.write(folder / "gguf" / "tiny-f32.gguf", jax.tree.map(jax.device_get, params), MODEL, words, "f32", "tiny")
    for name in ("tokenizer", "gguf/tokenizer"):
        shutil.copytree(products / "tokenizer", folder / name)
    pytest.importorskip("transformers")
    hugging_face.write(folder / "transformers", jax.tree.map(jax.device_get, params), MODEL, folder / "tokenizer")
    return folder


@pytest.mark.parametrize("case", [*SFT, *ANNOTATION, *MODELS], ids=lambda case: case.name)
def test_the_word_is_in_the_documented_outputs_alone(case, runner, model):
    check(case, runner, model=model, gguf=model / "gguf", transformers=model / "transformers")


# The server ---------------------------------------------------------------------------------------------------

MESSAGES = [{"role": "user", "content": W}]


def asked(status: int, **more) -> tuple:
    return status, "/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 4} | more


def raw(status: int, body: bytes, path: str = "/v1/chat/completions", **headers: str) -> tuple:
    return status, path, body, {name.replace("_", "-"): value for name, value in headers.items()}


REQUESTS = [
    asked(200), asked(200, user=W, metadata={WORD: W}), asked(200, stop=[WORD]), asked(400, **{WORD: W}), asked(400, tools=[W]),
    asked(400, n=W), asked(400, logit_bias={WORD: 1}), asked(400, response_format=W), asked(400, max_tokens=WORD),
    asked(400, temperature=WORD), asked(400, top_p=[W]), asked(400, seed=WORD), asked(400, stop=[W * 30]), asked(400, stop=[W] * 5),
    asked(400, stream=W), asked(400, stream_options=W), asked(400, stream_options={WORD: W}), asked(400, logprobs=W),
    asked(400, grammar=f'root ::= "{WORD}'), asked(400, grammar={WORD: W}), asked(400, add_generation_prompt=W),
    asked(400, messages=W), asked(400, messages=[W]), asked(400, messages=[{"role": WORD, "content": W}]),
    asked(400, messages=[{"role": "user", "content": {WORD: W}}]), asked(400, messages=[{"role": "user", "content": [W]}]),
    asked(400, messages=[MESSAGES[0] | {WORD: W}]), asked(400, messages=[MESSAGES[0] | {"content": W * 200}]),
    asked(400, messages=[MESSAGES[0] | {"content": W * 9000}]), asked(400, messages=[]), asked(400, continue_final_message=True),
    (200, "/v1/completions", {"prompt": W, "max_tokens": 4}), (400, "/v1/completions", {"prompt": {WORD: W}}),
    (400, "/v1/completions", {"prompt": [W, W]}), (400, "/v1/completions", {"prompt": [10**9], "suffix": W}),
    raw(400, f'{{"messages": "{W}'.encode()), raw(400, json.dumps(W).encode()), raw(400, json.dumps([W]).encode()),
    raw(400, f'{{"{WORD}": {"[" * 100_000}'.encode()), raw(400, rows({"messages": MESSAGES}).encode("cp932")),
    raw(400, f'{{"messages": [{{"role": "user", "content": {SURROGATE}}}]}}'.encode()), raw(413, W.encode() * 100_000),
    raw(415, W.encode(), Content_Type=f"text/{LATIN}"), raw(404, W.encode(), f"/v1/{LATIN}"), raw(400, W.encode(), Host=LATIN),
    raw(200, json.dumps(asked(200)[2]).encode(), Authorization=f"Bearer {LATIN}", User_Agent=LATIN, Cookie=LATIN),
    raw(200, json.dumps(asked(200)[2]).encode(), f"/v1/chat/completions?name={LATIN}")]


def test_the_server_logs_and_keeps_no_word(runner, model):
    pytest.importorskip("uvicorn")
    from tests.local.test_serve import Server, exchange
    server = Server(model / "gguf", runner.folder, "--config.grammars=true", "--config.runtime.threads=1")
    for expected, path, body, *headers in REQUESTS:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, answer = server.post(path, None, *headers, raw=content)
        assert status == expected, (status, answer, path, body)
        # The name of a field is told to its client, and nothing else of a request that is refused.
        assert status == 200 or not planted.holds(json.dumps(answer)) or "is not supported here" in json.dumps(answer), answer
    for garbage in (W.encode() * 9, b"POST " + W.encode() + b" HTTP/1.1\r\n\r\n", f"GET / HTTP/1.1\r\n{LATIN}\r\n\r\n".encode(),
                    f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {LATIN}\r\n\r\n".encode()):
        exchange(server, garbage + b"\r\n\r\n", 2.0)
    server.close()
    assert json.loads((runner.folder / "run" / "result.json").read_text())["requests"] >= 5  # the good ones were read
    server.log.chmod(0o600)  # the test's
    left = runner.left(None, "", server.log.read_text())
    assert "serving" in left.err and left.leaks() == [] and left.others_may_read == []
