"""The server, as real clients meet it."""

import concurrent.futures
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from slm.inference.engine import Engine
from slm.inference.sampling import GREEDY, Settings
from slm.local import serve
from slm.local.openai_format import read_chat, read_completion
from slm.local.runtime import RuntimeConfig
from slm.local.serve import ServeConfig
from slm.text import chat
from slm.text.tokenizer import END_OF_TURN
from tests.local.conftest import MODEL

QUESTION = [{"role": "user", "content": "糖尿病とは何ですか"}]
# Connects and binds of Python's are held to this machine; what llama.cpp itself does is read from /proc.
GUARD = """
import sys
def hook(event, args):
    if event in ('socket.connect', 'socket.bind', 'socket.getaddrinfo'):
        place = args[0] if event == 'socket.getaddrinfo' else args[1]
        host = place[0] if isinstance(place, tuple) else place
        if host not in ('127.0.0.1', None):
            print('OUTSIDE', event, host, flush=True)
            raise OSError('the network is unplugged')
sys.addaudithook(hook)
from slm.main import run
run()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`configs/serve.py` in a process of its own."""

    def __init__(self, folder, tmp_path, *flags):
        self.port, self.log = free_port(), tmp_path / "log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", GUARD, "--config=configs/serve.py", f"--config.runtime.model={folder}",
                 f"--config.port={self.port}", f"--workdir={tmp_path / 'run'}", *flags],
                stdout=log, stderr=subprocess.STDOUT, cwd=Path(__file__).parents[2])
        self.url = f"http://127.0.0.1:{self.port}"
        for _ in range(300):
            try:
                return urllib.request.urlopen(self.url + "/health", timeout=5).close()
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def post(self, path, body, headers=(), raw=None):
        """(status, answer)."""
        data = json.dumps(body).encode() if raw is None else raw
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"} | dict(headers))
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text[:1] == b"{" else text.decode()

    def memory(self) -> int:
        """Resident megabytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000

    def close(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(20) == 0, self.log.read_text()


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory):
    pytest.importorskip("uvicorn")
    server = Server(exported, tmp_path_factory.mktemp("server"), "--config.settings.max_tokens=200",
                    "--config.grammars=true")
    yield server
    server.close()
    assert "requests" in json.loads((server.log.parent / "run" / "result.json").read_text())


@pytest.fixture
def client(server):
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


def ours(params, words, prompt, count):
    ids, = Engine(params, MODEL).generate([prompt], count, GREEDY, words.special(END_OF_TURN))
    return words.decode(ids).rstrip("\ufffd")  # llama.cpp holds back what is only the beginning of a character


def test_the_answer_is_ours(client, params, words):
    said = client.chat.completions.create(model="tiny", messages=QUESTION, temperature=0, max_tokens=12)
    prompt = chat.encode(words, QUESTION, reply=True).ids
    assert said.choices[0].message.content == ours(params, words, prompt, 12)
    assert said.usage.prompt_tokens == len(prompt) and said.usage.completion_tokens == 12
    told = client.completions.create(model="tiny", prompt="患者は<|end|>", temperature=0, max_tokens=12)
    prompt = [words.end_of_document, *words.encode("患者は<|end|>")]  # a symbol that is spelled out is text
    assert told.choices[0].text == ours(params, words, prompt, 12)
    by_ids = client.completions.create(model="tiny", prompt=prompt, temperature=0, max_tokens=12)
    assert by_ids.choices[0].text == told.choices[0].text


def test_streams_seeds_and_stops(client):
    def ask(**options):
        return client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=24, **options)

    whole = ask(temperature=1, seed=7).choices[0].message.content
    parts = list(ask(temperature=1, seed=7, stream=True, stream_options={"include_usage": True}))
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == whole
    assert parts[0].choices[0].delta.role == "assistant" and parts[-1].usage.completion_tokens == 24
    assert parts[-2].choices[0].finish_reason == "length"
    assert ask(temperature=1, seed=8).choices[0].message.content != whole
    stop = whole[6:8]
    stopped = ask(temperature=1, seed=7, stop=[stop]).choices[0]
    assert stopped.finish_reason == "stop" and stopped.message.content == whole[:whole.index(stop)]


def test_log_probabilities(client):
    chosen = client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=4, temperature=0, logprobs=True,
                                            top_logprobs=3).choices[0]
    for token in chosen.logprobs.content:
        assert token.logprob == token.top_logprobs[0].logprob <= 0 and len(token.top_logprobs) == 3
    assert "".join(token.token for token in chosen.logprobs.content) == chosen.message.content
    told = client.completions.create(model="tiny", prompt="患者", max_tokens=4, temperature=0, logprobs=2).choices[0]
    assert len(told.logprobs.token_logprobs) == 4 and len(told.logprobs.top_logprobs[0]) == 2


def test_curl(server):
    done = subprocess.run(
        ["curl", "-sN", server.url + "/v1/chat/completions", "-H", "Content-Type: application/json", "-d",
         json.dumps({"messages": QUESTION, "stream": True, "max_tokens": 3})], capture_output=True, text=True, timeout=30)
    events = [line.removeprefix("data: ") for line in done.stdout.splitlines() if line]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"


BAD = [
    ("/v1/completions", {"prompt": ["a", "b"]}, 400, "a single text, or a list of token ids"),
    ("/v1/completions", {"prompt": [["a"]]}, 400, "a single text, or a list of token ids"),
    ("/v1/completions", {"prompt": "a", "min_p": 0.1}, 400, "min_p is not supported here, only min_p=0"),
    ("/v1/completions", {"prompt": "a", "samplers": ["top_k"]}, 400, "samplers is not supported here: remove it"),
    ("/v1/completions", {"prompt": "a", "top_logprobs": 2}, 400, "top_logprobs is not supported"),
    ("/v1/completions", {"prompt": "a", "messages": QUESTION}, 400, "messages is not supported"),
    ("/v1/completions", {"prompt": "a", "stream_options": "usage"}, 400, "stream_options must be an object"),
    *(("/v1/chat/completions", {"messages": QUESTION, name: value}, 400, f"{name} is not supported") for name, value in (
        ("guided_json", {"type": "object"}), ("guided_choice", ["はい"]), ("json_schema", {}), ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}), ("functions", [{"name": "f"}]), ("n", 3),
        ("logit_bias", {"5": 1}), ("chat_template", "x"), ("stop_token_ids", [5]), ("reasoning_effort", "low"),
        ("response_format", {"type": "json_schema", "json_schema": {}}), ("modalities", ["text", "audio"]),
        ("ignore_eos", True), ("mirostat", 2), ("prompt", "x"), ("truncate_prompt_tokens", 5))),
    ("/v1/chat/completions", {"messages": QUESTION, "top_logprobs": 2}, 400, "top_logprobs needs logprobs=true"),
    ("/v1/chat/completions", {"messages": QUESTION, "continue_final_message": True}, 400, "needs a final message of the"),
    ("/v1/chat/completions", {"messages": QUESTION, "continue_final_message": True, "add_generation_prompt": True}, 400,
     "conflict"),
    ("/v1/chat/completions", {"messages": [QUESTION[0] | {"name": "田中"}]}, 400, "name of a message is not supported"),
    ("/v1/chat/completions", {"messages": [{"role": "assistant", "content": "a", "tool_calls": [{"id": "1"}]}]}, 400,
     "tool_calls of a message is not supported"),
    ("/v1/completions", {}, 400, "prompt must be"),
    ("/v1/completions", {"prompt": [2, 99_999]}, 400, "outside of the vocabulary, 0 to 3071"),
    ("/v1/completions", {"prompt": "a", "max_tokens": 0}, 400, "max_tokens must be an integer"),
    ("/v1/completions", {"prompt": "a", "max_tokens": True}, 400, "max_tokens must be an integer"),
    ("/v1/completions", {"prompt": "a", "temperature": "hot"}, 400, "temperature must be a number"),
    ("/v1/completions", {"prompt": "a", "n": 2}, 400, "n is not supported"),
    ("/v1/completions", {"prompt": "a", "stop": [""]}, 400, "stop must be"),
    ("/v1/completions", {"prompt": "\ud800"}, 400, "lone surrogate"),
    ("/v1/completions", {"prompt": "a", "grammar": "root ::= ("}, 400, "grammar"),
    ("/v1/completions", {"prompt": "a", "grammar": "root ::= " + "(" * 9000}, 400, "grammar"),
    ("/v1/completions", {"prompt": "患" * 400}, 400, "the model's context is 256"),
    ("/v1/completions", {"prompt": "a" * 900_000}, 400, "the text has 900000 characters, more than 8192"),
    ("/v1/completions", {"prompt": "a", "stop": "\ud800"}, 400, "stop must be"),
    ("/v1/completions", {"prompt": "a", "stream": "true"}, 400, "stream must be true or false"),
    ("/v1/completions", {"prompt": "a", "max_completion_tokens": 0}, 400, "max_completion_tokens must be an integer"),
    ("/v1/chat/completions", {"messages": []}, 400, "list of at least one"),
    ("/v1/chat/completions", {"messages": [{"role": "tool", "content": "x"}]}, 400, "unknown role"),
    ("/v1/chat/completions", {"messages": QUESTION, "response_format": {"type": "json_object"}}, 400, "grammar"),
    ("/v1/chat/completions", {"messages": QUESTION, "tools": [{}]}, 400, "tools is not supported"),
]


@pytest.mark.parametrize("path, body, status, message", BAD, ids=[own[3][:20] + str(i) for i, own in enumerate(BAD)])
def test_what_cannot_be_done_is_said(server, path, body, status, message):
    found, answer = server.post(path, body)
    assert found == status and message in answer["error"]["message"]


def test_what_is_no_request_is_refused(server):
    assert server.post("/v1/completions", None, raw=b"{")[0] == 400
    assert server.post("/v1/completions", None, raw=b"\xff\xfe")[0] == 400
    assert server.post("/v1/completions", None, raw=b"[" * 100_000)[0] == 400
    assert server.post("/v1/completions", None, raw=b"x" * 1_000_001)[0] == 413
    assert server.post("/v1/completions", {"prompt": "a"}, {"Content-Type": "text/plain"})[0] == 415
    assert server.post("/v1/completions", {"prompt": "a"}, {"Host": "evil.example"})[0] == 400


def test_fields_that_ask_for_nothing_are_accepted(server, client, params, words):
    neutral = {"model": "gpt", "n": 1, "best_of": 1, "echo": False, "suffix": None, "logit_bias": {}, "user": "x", "tools": [],
               "tool_choice": "auto", "response_format": {"type": "text"}, "min_p": 0.0, "guided_json": None, "metadata": {}}
    status, answer = server.post("/v1/completions", {"prompt": ["患者は"], "temperature": 0, "max_tokens": 8} | neutral)
    prompt = [words.end_of_document, *words.encode("患者は")]
    assert status == 200 and answer["choices"][0]["text"] == ours(params, words, prompt, 8)  # as LangChain's OpenAI asks
    assert server.post("/v1/completions", {"prompt": [prompt], "temperature": 0, "max_tokens": 8})[1]["choices"] == (
        answer["choices"])
    earlier = client.chat.completions.create(model="tiny", messages=QUESTION, temperature=0, max_tokens=4).choices[0].message
    again = client.chat.completions.create(model="tiny", messages=[*QUESTION, earlier.model_dump(), *QUESTION], max_tokens=4)
    assert again.usage.completion_tokens <= 4


def test_an_answer_is_continued(server, params, words):
    """The whole answer, from its own beginning on."""
    body = {"messages": QUESTION, "temperature": 0, "max_tokens": 12}
    whole = server.post("/v1/chat/completions", body)[1]["choices"][0]["message"]["content"]
    begun = [*QUESTION, {"role": "assistant", "content": "糖尿病は"}]
    prompt = chat.encode(words, begun).ids[:-1]
    for settings in ({"continue_final_message": True}, {"continue_final_message": True, "add_generation_prompt": False}):
        status, answer = server.post("/v1/chat/completions", body | {"messages": begun} | settings)
        assert status == 200 and answer["usage"]["prompt_tokens"] == len(prompt)
        assert answer["choices"][0]["message"]["content"] == ours(params, words, prompt, 12) != whole
    closed = server.post("/v1/chat/completions", body | {"messages": begun, "add_generation_prompt": False})[1]
    assert closed["usage"]["prompt_tokens"] == len(prompt) + 1
    assert server.post("/v1/chat/completions", body | {"messages": begun})[1]["usage"]["prompt_tokens"] == len(prompt) + 2


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/", 404), ("POST", "/v1/embeddings", 404), ("GET", "/v1/models/", 404), ("GET", "/v1/chat/completions", 405),
    ("DELETE", "/v1/models", 405), ("PUT", "/v1/completions", 405)])
def test_unknown_routes_and_methods_are_errors_of_openai(server, method, path, status):
    request = urllib.request.Request(server.url + path, b"{}" if method == "POST" else None, method=method)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    error = json.loads(refused.value.read())["error"]
    assert refused.value.code == error["code"] == status and error["type"] == "invalid_request_error" and error["message"]


def exchange(server, data, seconds=10.0):
    """What the server sends until it closes the connection, or until the time is over."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        connection.sendall(data)
        parts = []
        try:
            while part := connection.recv(65536):
                parts.append(part)
        except ConnectionResetError:
            parts.append(b"closed")
        except TimeoutError:
            parts.append(b"still open")
    return b"".join(parts)


def test_a_body_in_chunks_is_refused(server):
    head = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
    body = b'{"prompt": "a", "max_tokens": 1}'
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    answer = exchange(server, chunked)
    assert answer.startswith(b"HTTP/1.1 411 ") and b"no Content-Length" in answer
    assert exchange(server, head + b"\r\n").startswith(b"HTTP/1.1 411 ")
    assert exchange(server, head + b"Content-Length: %d\r\n\r\n" % len(body) + body).startswith(b"HTTP/1.1 200 ")


def test_silent_connections_keep_nobody_out(server):
    """Nor half a head, nor half a body; and the answer of a running request still comes."""
    beginnings = [b"", b"GET /health HT", b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
                  b"application/json\r\nContent-Length: 500\r\n\r\n{"]
    with concurrent.futures.ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as stack:
        running = pool.submit(server.post, "/v1/completions", {"prompt": "患者", "max_tokens": 150, "temperature": 0})
        for number in range(300):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
            connection.sendall(beginnings[number % 3])
            if number % 50 == 49:
                begun = time.monotonic()
                assert urllib.request.urlopen(server.url + "/health", timeout=5).status == 200
                assert time.monotonic() - begun < 1
        assert running.result()[0] == 200
        assert server.post("/v1/completions", {"prompt": "患者", "max_tokens": 1})[0] == 200


def test_silent_connections_are_closed_and_signals_end_the_server(exported, tmp_path):
    pytest.importorskip("uvicorn")
    server = Server(exported, tmp_path, "--config.body_seconds=0.5")
    begun = time.monotonic()
    assert exchange(server, b"") == exchange(server, b"GET /health HTTP/1.1\r\nHost") in (b"", b"closed")
    whole = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    answer = exchange(server, whole + b"GET /hea")  # a second head that stops
    assert answer.count(b"HTTP/1.1 200 ") == 1 and not answer.endswith(b"still open") and time.monotonic() - begun < 5
    busy = subprocess.run([sys.executable, "-m", "slm.main", "--config=configs/serve.py", f"--workdir={tmp_path / 'busy'}",
                           f"--config.port={server.port}", f"--config.runtime.model={exported}"], capture_output=True,
                          text=True, cwd=Path(__file__).parents[2])
    assert busy.returncode == 1 and f"port={server.port} cannot be opened" in busy.stderr and "serving" not in busy.stdout
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(server.post, "/v1/completions", {"prompt": "患者", "max_tokens": 200})
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    log = server.log.read_text()
    assert "Traceback" not in log and log.count("serving") == 1
    assert "requests" in json.loads((tmp_path / "run" / "result.json").read_text())


def test_a_grammar_holds(client):
    said = client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=20,
                                          extra_body={"grammar": 'root ::= "はい" | "いいえ"'})
    assert said.choices[0].message.content in ("はい", "いいえ")


def test_other_machines_need_a_token(exported, tmp_path):
    pytest.importorskip("uvicorn")
    with pytest.raises(ValueError, match=r"host=0\.0\.0\.0 opens the model to other machines"):
        ServeConfig(host="0.0.0.0")
    secret = tmp_path / "secret"
    secret.write_text("a-long-enough-token\n")
    secret.chmod(0o644)
    with pytest.raises(ValueError, match="secret can be read by other users of this machine: run chmod 600 on it"):
        serve._read_token(str(secret))
    secret.chmod(0o600)
    secret.write_text("長い合言葉を使ってください。\n")
    with pytest.raises(ValueError, match="begins with a token that is not ASCII"):
        serve._read_token(str(secret))
    secret.write_text("short\n")
    done = subprocess.run([sys.executable, "-m", "slm.main", "--config=configs/serve.py", f"--workdir={tmp_path / 'x'}",
                           f"--config.token_file={secret}", f"--config.runtime.model={exported}"], capture_output=True,
                          text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 1 and "a token of 5 characters: give at least 16" in done.stderr
    secret.write_text("a-long-enough-secret\n")
    server = Server(exported, tmp_path, f"--config.token_file={secret}", "--config.parallel=1", "--config.waiting=0")
    body = {"prompt": "患者", "max_tokens": 2}
    assert server.post("/v1/completions", body)[0] == 401
    assert server.post("/v1/completions", body, {"Authorization": "Bearer wrong"})[0] == 401
    right = {"Authorization": "Bearer a-long-enough-secret"}
    assert server.post("/v1/completions", body, right)[0] == 200
    status, told = server.post("/v1/completions", body | {"grammar": 'root ::= "a"'}, right)
    assert status == 400 and "--config.grammars=true" in told["error"]["message"]
    # One at a time, and nobody waits.
    long = {"prompt": "患者", "max_tokens": 240, "temperature": 1}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: server.post("/v1/completions", long, right)[0], range(8)))
    assert set(statuses) == {200, 429}
    server.close()
    log = server.log.read_text()
    assert "患者" not in log and "secret" not in log


def test_only_this_machine_is_talked_to(server):
    """llama.cpp's own sockets included: all that is open is our port on 127.0.0.1."""
    inodes = {os.readlink(path)[8:-1] for path in Path(f"/proc/{server.process.pid}/fd").iterdir()
              if os.readlink(path).startswith("socket:")}
    open_ones = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{server.process.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes:
                open_ones.append((table, fields[1], fields[2]))
    listening = [own for own in open_ones if own[2] == "00000000:0000"]
    assert listening == [("tcp", f"0100007F:{server.port:04X}", "00000000:0000")]
    assert all(own[2].startswith("0100007F:") for own in open_ones if own not in listening)
    assert "OUTSIDE" not in server.log.read_text()


def test_two_hundred_requests_from_sixteen_clients(server):
    """Some leave in the middle, some are no requests: every other gets its own answer, and memory stays."""
    words = ["糖尿病", "高血圧", "肺炎", "喘息", "骨折", "貧血", "頭痛", "発熱"]
    prompts = [f"{a}と{b}の患者{i}" for i, (a, b) in enumerate(zip(words * 2, words[3:] + words[:3] + words))]
    bodies = [{"prompt": prompt, "max_tokens": 24, "temperature": 0} for prompt in prompts]
    expected = {body["prompt"]: server.post("/v1/completions", body)[1]["choices"][0]["text"] for body in bodies}
    assert len(set(expected.values())) > 8

    def client(number):
        chance = random.Random(number)
        for _ in range(13):
            kind, body = chance.random(), chance.choice(bodies)
            if kind < 0.15:
                leave(server, body | {"stream": True, "max_tokens": 64}, chance)
            elif kind < 0.25:
                leave(server, body | {"max_tokens": 64}, chance)
            elif kind < 0.3:
                assert server.post("/v1/completions", None, raw=b"x" * 1_500_000)[0] == 413
            elif kind < 0.4:
                assert server.post("/v1/completions", None, raw=chance.randbytes(50))[0] in (400, 429)
            else:
                while (told := server.post("/v1/completions", body))[0] == 429:
                    time.sleep(0.05)
                assert told[0] == 200 and told[1]["choices"][0]["text"] == expected[body["prompt"]]
        return 13

    memory = []
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for _ in range(2):
            assert sum(pool.map(client, range(16))) == 208
            memory.append(server.memory())
    assert memory[1] - memory[0] < 20, memory
    assert server.post("/v1/completions", bodies[0])[0] == 200
    log = server.log.read_text()
    assert "Traceback" not in log and not any(word in log for word in words)


def test_what_nobody_waits_for_is_not_computed(server):
    """Processor time of the server after six clients asked for long answers and left at once, against one answer."""
    long = {"prompt": "患者", "max_tokens": 200, "temperature": 0, "grammar": "root ::= [あ-ん]{200,300}"}

    def spent() -> float:
        fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    begun = spent()
    assert server.post("/v1/completions", long)[0] == 200
    one = spent() - begun
    gone = json.dumps(long).encode()
    for _ in range(6):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                               b"Content-Length: %d\r\n\r\n" % len(gone) + gone)
            time.sleep(0.05)
    time.sleep(0.5)
    begun = spent()
    assert server.post("/v1/completions", {"prompt": "患者", "max_tokens": 1})[0] == 200
    time.sleep(1)
    assert spent() - begun < max(2 * one, 0.5)


def leave(server, body, chance):
    """Sends a request and closes the connection at some time during the answer."""
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(data) + data[:chance.choice([10, len(data)])])
        time.sleep(chance.random() * 0.05)


def test_reading_a_request(words, exported):
    from slm.local import runtime
    model = runtime.load(RuntimeConfig(str(exported)))
    asked = read_completion({"prompt": "患者", "max_tokens": 10_000, "top_p": 0, "stream": True}, model, Settings())
    assert asked.completion["max_tokens"] == model.context - len(asked.completion["prompt"])
    assert asked.stream and asked.logprobs == -1 and asked.completion["stop"] == []
    told = read_chat({"messages": [{"role": "developer", "content": [{"type": "text", "text": "医師"}]}, *QUESTION],
                      "logprobs": True}, model, Settings())
    expected = chat.encode(words, [{"role": "system", "content": "医師"}, *QUESTION], reply=True).ids
    assert told.completion["prompt"] == expected and told.logprobs == 0
