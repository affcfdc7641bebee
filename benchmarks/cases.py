"""The inputs of ../shared/cases, each with its command, in a temporary folder: `python benchmarks/cases.py CASES`.

Prints a line each, `right` or `WRONG` with what came out, and ends with 1 if any is wrong. Needs the extras of `dev`;
the first minute trains and exports a tiny model.
"""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).parents[1]
CASES: dict = {}


def case(function):
    CASES[function.__name__] = function
    return function


def slm(*arguments: str, timeout: float = 300) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "slm.main", *map(str, arguments)], capture_output=True, text=True,
                          timeout=timeout, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    return done.returncode, done.stdout + done.stderr


def expect(condition: bool, out: object) -> None:
    if not condition:
        raise AssertionError(str(out)[-600:])


def corpus(files: str, workdir: str, *settings: str) -> dict[str, str]:
    """{id: text} of a curated corpus of these files and the filler."""
    code, out = slm("--config=configs/corpus.py:files", f"--config.corpus.files={files},cases/filler.jsonl",
                    f"--workdir=runs/{workdir}", *settings)
    expect(code == 0, out)
    from slm.corpus import dataset
    folder = Path(json.loads(Path(f"runs/{workdir}/result.json").read_text())["corpus"])
    return {document["id"].decode(): document["text"].decode() for split in ("train", "validation")
            for document in dataset.read(folder, split)}


@case
def small_vocabulary():
    code, out = slm("--config=configs/tokenizer.py", "--config.corpus.files=cases/small_vocabulary.jsonl",
                    "--config.tokenizer.size=1100", "--config.tokenizer.lexicons=none")
    expect("Traceback" not in out and (code == 0 or re.search(r"error: .*\d", out)), out)


def tuned(kind: str, name: str) -> tuple[int, str]:
    shutil.rmtree("runs/sft", ignore_errors=True)
    return slm(f"--config=configs/sft.py:{kind}", f"--config.sets.own.files=cases/{name}",
               "--config.validation_share=0.3", "--config.checkpoint=runs/base", "--workdir=runs/sft",
               "--config.train.steps=2", "--config.epochs=0")


@case
def tool_calls():
    code, out = tuned("messages", "tool_calls.jsonl")
    expect(code and "tool calls are not supported" in out and "line " in out and "Traceback" not in out, out)


@case
def alpaca_lines():
    rows = [json.loads(line) for line in Path("cases/alpaca_lines.jsonl").read_text().splitlines()]
    empty = sum(not row["output"].strip() for row in rows)
    code, out = tuned("alpaca", "alpaca_lines.jsonl")
    expect(code == 0 and (not empty or f"left out {empty} of {len(rows)} conversations" in out), out)


@case
def alpaca_data():
    code, out = tuned("alpaca", "alpaca_data.json")
    expect(code == 0, out)


@case
def weight_text():
    code, out = tuned("messages", "weight_text.jsonl")
    expect(code and "weight" in out and "line " in out, out)


@case
def hf_w8a8():
    code, out = slm("--config=configs/import_hugging_face.py", "--config.folder=cases/hf_w8a8",
                    "--workdir=runs/w8a8")
    expect(code and "quantization_config" in out and not Path("runs/w8a8/checkpoints").exists(), out)


def asked(*settings: str) -> str:
    code, out = slm("--config=configs/evaluate.py:tables", "--config.tables.own.file=cases/four_options.csv",
                    "--config.resamples=20", "--workdir=runs/four", *settings)
    expect(code == 0, out)
    return out


@case
def four_options_hugging_face():
    rows = []
    for seed in (0, 1):
        shutil.rmtree("model", ignore_errors=True)
        shutil.copytree(f"runs/export-{seed}/model", "model")
        asked("--config.backend=hugging_face", "--config.model=model")
        answers, = Path("runs/four/answers").glob("*.jsonl")
        rows.append([line for line in answers.read_text().splitlines()][1:])
    expect(rows[0] != rows[1], "the answers of the first model")


@contextlib.contextmanager
def answering(reply):
    """The URL of an endpoint that answers each prompt by `reply`."""
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            text = reply(request["messages"][-1]["content"])
            body = json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}]}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


@case
def four_options_openai():
    shutil.rmtree("runs/four", ignore_errors=True)
    with answering(lambda prompt: "A") as url:
        settings = ("--config.backend=openai", "--config.model=m", f"--config.base_url={url}", "--config.choice=free")
        asked(*settings)
        out = asked(*settings)
    expect("reusing answers from 20" in out, out)


@case
def chatty():
    def reply(prompt):
        return re.search(r"REPLY=<(.*)>", prompt)[1]
    with answering(reply) as url:
        code, out = slm("--config=configs/evaluate.py:tables", "--config.tables.own.file=cases/chatty.csv",
                        "--config.backend=openai", "--config.model=m", f"--config.base_url={url}",
                        "--config.choice=free", "--config.resamples=20", "--workdir=runs/chatty")
    expect(code == 0, out)
    line = json.loads(Path("runs/chatty/result.json").read_text())["own"]
    expect(line["metrics"]["accuracy"]["value"] == 1.0, line)


@case
def jawiki():
    name = next(Path("cases").glob("jawiki*.xml"))
    texts = "\n".join(corpus(str(name), "jawiki").values())
    expect("10^4/μL" in texts, [line for line in texts.splitlines() if "μL" in line])
    report = next(Path("runs/products").glob("corpus-*/report.json"), None)
    reports = [json.loads(path.read_text()) for path in Path("runs/products").glob("corpus-*/report.json")]
    expect(report and any("template" in json.dumps(one) for one in reports), "no count of dropped templates")


@case
def nested_license():
    ids = corpus("cases/nested_license.jsonl", "license", "--config.corpus.forbidden_licenses=NC")
    expect(not {"a1", "a2", "a3"} & {*ids}, sorted({"a1", "a2", "a3"} & {*ids}))


@case
def births():
    texts = corpus("cases/births.jsonl", "births", "--config.corpus.profile=clinical")
    left = [id for id in ("b0", "b1", "b2", "b3", "b4", "b5") if id in texts
            and re.search(r"3230405|S230405|1948/0?4/0?5|昭和[2２][3３]年", texts[id][:40])]
    expect(not left, left)




@case
def price_list_sheets():
    import openpyxl

    from slm.corpus.lexicon import lists
    sheets = openpyxl.load_workbook("cases/price_list_sheets.xlsx").sheetnames
    try:
        entries = [entry.surface for entries in lists("cases/price_list_sheets.xlsx") for entry in entries]
    except ValueError as error:
        entries = [str(error)]
    expect(len(sheets) > 1 and len(entries) >= len(sheets), entries)


@case
def nmain520():
    from slm.corpus.lexicon import lists
    try:
        words = [entry.surface for entries in lists("cases/nmain520.txt") for entry in entries]
    except ValueError:
        return  # refused, as the same file named .csv is
    expect(not any('"' in word or "," in word for word in words), words)


@case
def notes_upper_case():
    code, out = slm("--config=configs/annotate.py", "--config.records=cases/notes_upper_case",
                    "--config.runtime.model=runs/export-gguf", "--config.settings.max_tokens=4",
                    "--workdir=runs/notes")
    lines = Path("runs/notes/annotations.jsonl").read_text().splitlines() if code == 0 else []
    expect(len(lines) == 4 or (code == 0 and "passed over" in out), out)


@case
def cp932_head():
    code, out = slm("--config=configs/annotate.py", "--config.records=cases/cp932_head.csv",
                    "--config.text_column=経過記録", "--config.id_column=患者番号",
                    "--config.runtime.model=runs/export-gguf", "--config.settings.max_tokens=4",
                    "--workdir=runs/cp932")
    expect(code == 0 or "CP932" in out, out)


@case
def odd_paths():
    for name in ("data[2024]", "a,b", "a@b"):
        Path(name).mkdir(exist_ok=True)
        shutil.copy("cases/filler.jsonl", f"{name}/filler.jsonl")
        code, out = slm("--config=configs/corpus.py:files", f"--config.corpus.files={name}/filler.jsonl",
                        "--config.corpus.curated=false", "--workdir=runs/odd")
        expect(code == 0, out)


@case
def continue_final():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "slm.main", "--config=configs/serve.py",
                               "--config.runtime.model=runs/export-gguf", f"--config.port={port}"],
                              env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/v1/chat/completions", Path("cases/continue_final.json").read_bytes(),
                           {"content-type": "application/json"})
        response = connection.getresponse()
        body = response.read().decode()
        expect(response.status in (200, 400) and (response.status == 200 or "error" in body), body)
    finally:
        server.terminate()
        server.wait()


@case
def template_parts():
    done = subprocess.run([sys.executable, "cases/template_parts.py", "runs/export-0/model"], capture_output=True,
                          text=True, check=False)
    lines = done.stdout.splitlines()
    expect(done.returncode != 0 and len(lines) == 2 and "'type'" not in lines[0] and "<|system|>医師" in lines[1]
           and "tool" not in done.stdout, done.stdout + done.stderr)


def prepare() -> None:
    """runs/base, its exports runs/export-0 and -1 for Hugging Face, and runs/export-gguf."""
    for seed in (0, 1):
        for arguments in (
                ["--config=configs/pretrain.py:debug", "--config.train.steps=4", f"--config.seed={seed}",
                 "--config.train.tensorboard=false", f"--workdir=runs/base{seed or ''}"],
                ["--config=configs/export.py:hugging_face", f"--config.checkpoint=runs/base{seed or ''}",
                 "--config.prove=false", f"--workdir=runs/export-{seed}"]):
            code, out = slm(*arguments)
            expect(code == 0, out)
    code, out = slm("--config=configs/export.py:gguf", "--config.checkpoint=runs/base", "--config.prove=false",
                    "--config.kinds=f32", "--workdir=runs/export-gguf")
    expect(code == 0, out)


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("usage: python benchmarks/cases.py ../shared/cases [NAME …]")
    cases, names = Path(sys.argv[1]).resolve(), sys.argv[2:] or [*CASES]
    sys.path.insert(0, str(ROOT))
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("cases").symlink_to(cases)
        Path("configs").symlink_to(ROOT / "configs")
        prepare()
        for name in names:
            try:
                CASES[name]()
                print(f"right  {name}", flush=True)
            except (AssertionError, ValueError, OSError, KeyError, subprocess.TimeoutExpired) as error:
                wrong += 1
                print(f"WRONG  {name}: {' '.join(str(error).split())}", flush=True)
        os.chdir(ROOT)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
