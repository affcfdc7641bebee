import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from slm.openai_client import connect, is_loopback

pytest.importorskip("openai")
ANSWER = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [
    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "はい"}}]}


class Recorder:
    """An HTTP server that keeps what it receives, to serve as the endpoint or as a proxy."""

    def __init__(self, status=200, location=""):
        self.requests, recorder = [], self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                recorder.requests.append((self.path, dict(self.headers.items()), text))
                body = json.dumps(ANSWER).encode()
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self):
        return self.server.server_port

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def recorder():
    opened = []

    def start(**options):
        opened.append(Recorder(**options))
        return opened[-1]
    yield start
    for server in opened:
        server.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-environment")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-of-the-environment")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: secret-of-the-environment")


def ask(base_url, asynchronous=False, **options):
    client = connect(base_url, timeout=10, retries=0, asynchronous=asynchronous, **options)
    asked = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "主訴は頭痛"}])
    return (asyncio.run(asked) if asynchronous else asked).choices[0].message.content


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1"])
def test_this_machine_is_never_asked_through_a_proxy_and_gets_no_key(host, asynchronous, recorder, monkeypatch):
    endpoint, proxy = recorder(), recorder()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    assert ask(f"http://{host}:{endpoint.port}/v1", asynchronous) == "はい"
    assert proxy.requests == [] and len(endpoint.requests) == 1
    assert "of-the-environment" not in json.dumps(endpoint.requests)


def test_other_servers_are_asked_through_a_proxy_without_the_key(recorder, monkeypatch):
    proxy = recorder()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    assert ask("http://gpu.invalid/v1") == "はい"
    (path, headers, _), = proxy.requests
    assert path == "http://gpu.invalid/v1/chat/completions"
    assert "of-the-environment" not in json.dumps(headers)


def test_a_key_goes_where_a_config_says(recorder, monkeypatch):
    endpoint = recorder()
    monkeypatch.setenv("WARD_KEY", "ward")
    ask(f"http://127.0.0.1:{endpoint.port}/v1", api_key_variable="WARD_KEY")
    assert {name.lower(): value for name, value in endpoint.requests[0][1].items()}["authorization"] == "Bearer ward"
    with pytest.raises(ValueError, match="api_key_variable=NO_SUCH is not set"):
        connect(f"http://127.0.0.1:{endpoint.port}/v1", 10, 0, "NO_SUCH")


def test_the_key_of_the_environment_is_for_openai_only():
    assert connect("https://api.openai.com/v1", 10, 0).api_key == "sk-of-the-environment"
    for url in ("http://api.openai.com/v1", "https://api.openai.com.invalid/v1", "https://openai.com@x.invalid/v1"):
        assert connect(url, 10, 0).api_key == "none"


def test_a_redirection_is_not_followed(recorder):
    import openai
    elsewhere = recorder()
    endpoint = recorder(status=307, location=f"http://127.0.0.1:{elsewhere.port}/v1/chat/completions")
    with pytest.raises(openai.OpenAIError):
        ask(f"http://127.0.0.1:{endpoint.port}/v1")
    assert len(endpoint.requests) == 1 and elsewhere.requests == []


@pytest.mark.parametrize("host, expected", [
    ("localhost", True), ("LocalHost.", True), ("model.localhost", True), ("127.0.0.1", True), ("127.8.9.1", True),
    ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", True), ("::", True), ("2130706433", True),
    ("localhost.invalid", False), ("10.0.0.1", False), ("api.openai.com", False), ("127.0.0.1.invalid", False)])
def test_names_of_this_machine(host, expected):
    assert is_loopback(host) == expected


@pytest.mark.parametrize("base_url", ["", "localhost:8000", "http://", "ftp://localhost/v1", "http://[::1", "http://a:b/v1"])
def test_what_is_not_a_url_is_refused(base_url):
    with pytest.raises(ValueError, match="name the server that may receive the prompts"):
        connect(base_url, 10, 0)
