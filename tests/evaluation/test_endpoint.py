import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from slm.evaluation.endpoint import Endpoint

pytest.importorskip("openai")


def user(text):
    return [{"role": "user", "content": text}]


class Stub:
    """An OpenAI-compatible server on 127.0.0.1; `answer` makes (status, body) of (path, request)."""

    def __init__(self, answer):
        self.requests, stub = [], self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.requests.append((self.path, request, self.headers["Authorization"]))
                status, body = answer(self.path, request)
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def serve(monkeypatch):
    stubs = []
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("SLM_API_KEY", "secret")

    def start(answer):
        stubs.append(Stub(answer))
        return stubs[-1]

    yield start
    for stub in stubs:
        stub.server.shutdown()
        stub.server.server_close()


def completion(content, top=None):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    if top is not None:
        entries = [{"token": token, "logprob": value, "bytes": None} for token, value in top]
        choice["logprobs"] = {"content": [entries[0] | {"top_logprobs": entries}]}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


def test_replies_come_in_the_order_of_the_conversations(serve):
    stub = serve(lambda path, request: (200, completion(f" {request['messages'][-1]['content']}!\n")))
    replies = Endpoint(stub.url, "m", workers=4, api_key_variable="SLM_API_KEY").generate(
        [user(str(i)) for i in range(20)], 7)
    assert replies == [f"{i}!" for i in range(20)]
    path, request, key = stub.requests[0]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("m", 0, 7)


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_no_answer_is_an_empty_one(serve, content):
    stub = serve(lambda path, request: (200, completion(content)))
    assert Endpoint(stub.url, "m").generate([user("x")], 5) == [""]


def test_a_server_that_fails_twice_is_asked_again(serve):
    stub = serve(lambda path, request: (503, {"error": "busy"}) if len(stub.requests) < 3 else (200, completion("B")))
    assert Endpoint(stub.url, "m", retries=3).generate([user("x")], 5) == ["B"]
    assert len(stub.requests) == 3


@pytest.mark.parametrize("status, body", [
    (500, {"error": "down"}), (400, {"error": {"message": "maximum context length is 2048"}}), (200, b"{no json"),
    (200, {}), (200, {"choices": []}), (200, {"choices": None}), (200, ["x"]), (200, "x"), (200, {"choices": [{}]})])
def test_what_is_no_answer_is_one_clear_error(serve, status, body):
    stub = serve(lambda path, request: (status, body))
    with pytest.raises(RuntimeError, match=r"127.0.0.1.* gave no usable answer for m \("):
        Endpoint(stub.url, "m", retries=1, workers=2).generate([user("x")] * 3, 5)


def test_after_a_failure_nothing_more_is_asked(serve):
    stub = serve(lambda path, request: (400, {"error": "no"}))
    with pytest.raises(RuntimeError):
        Endpoint(stub.url, "m", workers=1).generate([user("x")] * 50, 5)
    assert len(stub.requests) < 10


def test_letters_are_read_from_the_first_token(serve):
    top = [("A", math.log(0.5)), (" A", math.log(0.1)), ("B", math.log(0.3)), ("はい", math.log(0.05))]
    stub = serve(lambda path, request: (200, completion("A", top)))
    (result,) = Endpoint(stub.url, "m").log_likelihoods([(user("x"), ["A", "B", "C"])])
    assert result == pytest.approx([math.log(0.6), math.log(0.3), math.log(0.05)])
    request = stub.requests[0][1]
    assert (request["max_tokens"], request["logprobs"], request["top_logprobs"]) == (1, True, 20)


@pytest.mark.parametrize("answer", [completion("A"), completion("A") | {"choices": [
    completion("A")["choices"][0] | {"logprobs": {"content": []}}]}])
def test_a_server_without_log_probabilities_says_so(serve, answer):
    stub = serve(lambda path, request: (200, answer))
    with pytest.raises(RuntimeError, match="returns no log-probabilities of m"):
        Endpoint(stub.url, "m").log_likelihoods([(user("x"), ["A"])])


def test_continuations_are_single_letters(serve):
    stub = serve(lambda path, request: (200, completion("A")))
    with pytest.raises(ValueError, match="'胃癌' is not a single letter"):
        Endpoint(stub.url, "m").log_likelihoods([(user("x"), ["A", "胃癌"])])
    assert not stub.requests


def test_tokens_where_the_server_tells_them(serve):
    stub = serve(lambda path, request: (200, {"tokens": [len(request["content"]), 5]}))
    assert Endpoint(stub.url, "m").tokenize("発熱") == [2, 5]
    assert stub.requests[0][0] == "/tokenize"


@pytest.mark.parametrize("status, body", [(404, {}), (200, {}), (200, {"tokens": ["a"]}), (200, []), (200, b"<html>")])
def test_tokens_where_it_does_not(serve, status, body):
    stub = serve(lambda path, request: (status, body))
    with pytest.raises(ValueError, match="does not tokenize for m"):
        Endpoint(stub.url, "m", retries=0).tokenize("x")


@pytest.mark.parametrize("base_url, model, message", [
    ("", "m", "name the server"), ("localhost:8000", "m", "name the server"), ("http://localhost:1/v1", "", "no model")])
def test_server_and_model_are_never_guessed(base_url, model, message):
    with pytest.raises(ValueError, match=message):
        Endpoint(base_url, model)
