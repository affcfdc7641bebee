"""The serve job: an OpenAI-compatible server on llama.cpp.

Our tokenizer makes the ids, so text is split as in training and a control symbol in it stays text. It listens on this
machine only, unless the user sets a token; it stores and logs no text; what it accepts is bounded.
"""

import asyncio
import contextlib
import dataclasses
import hmac
import json
import os
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from slm.inference.sampling import Settings
from slm.local import runtime
from slm.local.openai_format import Request, ResponseBuilder, read_chat, read_completion
from slm.local.runtime import LlamaCpp, RuntimeConfig

_LOCAL = ("127.0.0.1", "localhost")
_SHORTEST_TOKEN = 16
_DRAINED = 8  # times request_bytes are read of a longer request: a client that is still sending reads no answer
_DISCONNECTED_SECONDS = 0.25  # how often to check whether a client has disconnected


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """The serve job."""
    job: str = "serve"
    variant: str = "local"
    runtime: RuntimeConfig = RuntimeConfig()
    settings: Settings = Settings()  # defaults of requests; max_tokens is also the limit of any request
    host: str = "127.0.0.1"
    port: int = 8080
    token_file: str = ""  # its first line is the API key that clients must send; required for any other host
    parallel: int = 2  # requests computed together
    waiting: int = 16  # requests that may wait for their turn; others get 429
    grammars: bool = False  # whether clients may send grammars: even a short one can block llama.cpp for long
    request_bytes: int = 1_000_000
    body_seconds: float = 30.0  # within which a request must arrive

    def __post_init__(self):
        if self.host not in _LOCAL and not self.token_file:
            raise ValueError(f"host={self.host} opens the model to other machines, and token_file is empty: name a "
                             f"file with a secret of at least {_SHORTEST_TOKEN} characters, or keep host at 127.0.0.1")
        if min(self.parallel, self.request_bytes) < 1 or self.waiting < 0 or self.body_seconds <= 0:
            raise ValueError(f"parallel={self.parallel}, request_bytes={self.request_bytes}, waiting={self.waiting}, "
                             f"body_seconds={self.body_seconds}: give at least 1, 1, 0 and more than 0")


def run(config: ServeConfig, workdir: Path) -> dict:
    """Serves until it is interrupted; returns what `result.json` holds."""
    try:
        from slm.local import http_server
    except ImportError as error:
        raise RuntimeError(f"serving needs {error.name}: pip install 'slm[local]'") from None
    token = _read_token(config.token_file) if config.token_file else ""
    bound = http_server.bind(config.host, config.port)
    model = runtime.load(config.runtime, config.parallel)
    if not isinstance(model, LlamaCpp):
        raise ValueError(f"{model.name} is a training checkpoint: export it for llama.cpp first, with python -m "
                         f"slm.main --config=configs/export.py:gguf --config.checkpoint={model.name}")
    _silence_llama()
    service = Service(config, model, token)
    bound.listen(1024)
    print(f"serving {model.name} on http://{config.host}:{bound.getsockname()[1]}/v1, {config.parallel} requests at a "
          "time; Ctrl-C ends it. Nothing it says is medical advice.", flush=True)
    http_server.run(service.app(), bound, config.body_seconds)
    return {"model": model.name, "requests": service.requests, "tokens": service.tokens}


def _silence_llama() -> None:
    """Keeps llama.cpp from writing parts of requests to stderr; Python's own errors still go there."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)


def _read_token(path: str) -> str:
    if Path(path).stat().st_mode & 0o077:
        raise ValueError(f"{path} can be read by other users of this machine: run chmod 600 on it")
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    token = lines[0].strip() if lines else ""
    if not token.isascii():
        raise ValueError(f"{path} begins with a token that is not ASCII, which a header cannot hold: make another")
    if len(token) < _SHORTEST_TOKEN:
        raise ValueError(f"{path} begins with a token of {len(token)} characters: give at least {_SHORTEST_TOKEN}, "
                         "for example of python -c 'import secrets; print(secrets.token_urlsafe())'")
    return token


class Refused(Exception):
    """A request that gets an HTTP error."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Service:
    """The routes, and the queue of requests.

    Attributes:
      requests, tokens: answered and generated so far.
    """

    def __init__(self, config: ServeConfig, model: LlamaCpp, token: str):
        self.config, self.model, self.token = config, model, token
        self.requests = self.tokens = self._inside = 0
        self._turns, self._reading = asyncio.Semaphore(config.parallel), asyncio.Lock()

    def app(self):
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.routing import Route
        # Against DNS rebinding: a web page must not reach the model through its reader's browser.
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["*"] if self.token else list(_LOCAL))
        app = Starlette(middleware=[hosts], exception_handlers={HTTPException: _unknown, Exception: _failed}, routes=[
            Route("/health", self._health), Route("/v1/models", self._models),
            Route("/v1/completions", self._completions, methods=["POST"]),
            Route("/v1/chat/completions", self._chat, methods=["POST"])])
        app.router.redirect_slashes = False
        return app

    async def _health(self, request):
        return _json(200, {"status": "ok"})

    async def _models(self, request):
        try:
            self._admit(request)
        except Refused as refused:
            return _error(refused)
        return _json(200, {"object": "list", "data": [{"id": self.model.name, "object": "model", "created": 0,
                                                       "owned_by": "local"}]})

    async def _completions(self, request):
        return await self._answer(request, chat=False)

    async def _chat(self, request):
        return await self._answer(request, chat=True)

    async def _answer(self, request, chat: bool):
        from starlette.requests import ClientDisconnect
        from starlette.responses import StreamingResponse
        try:
            self._admit(request)
            body = await self._body(request)
            self._refuse_crowd()
            if body.get("grammar") is not None and not self.config.grammars:
                raise Refused(400, "grammar is not accepted: start the server with --config.grammars=true")
            try:
                async with self._reading:  # MeCab takes one text at a time; other streams continue meanwhile
                    parsed = await asyncio.to_thread(read_chat if chat else read_completion, body, self.model,
                                                     self.config.settings)
            except ValueError as error:
                raise Refused(400, str(error)) from None
            self._refuse_crowd()
            chunks = self._chunks(request, parsed)
            first = await anext(chunks)  # raises an error before anything is streamed
        except Refused as refused:
            return _error(refused)
        except (StopAsyncIteration, ClientDisconnect):
            return _error(Refused(499, "the client has disconnected"))
        response = ResponseBuilder(self.model.name, parsed)
        if parsed.stream:
            return StreamingResponse(self._events(response, first, chunks), media_type="text/event-stream",
                                     headers={"Cache-Control": "no-store"})
        try:
            response.add(first)
            async for chunk in chunks:
                response.add(chunk)
        except Refused as refused:
            return _error(refused)
        return _json(200, response.whole())

    def _refuse_crowd(self) -> None:
        if self._inside >= self.config.parallel + self.config.waiting:
            raise Refused(429, f"{self._inside} requests are running or waiting: try again later")

    def _admit(self, request) -> None:
        if self.token:
            key = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
            if not hmac.compare_digest(key, self.token.encode()):
                raise Refused(401, "the API key is missing or wrong")

    async def _body(self, request) -> dict[str, Any]:
        # A browser sends this type to another site only after a preflight request, which is never allowed.
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise Refused(415, "the Content-Type must be application/json")
        if "transfer-encoding" in request.headers or "content-length" not in request.headers:
            raise Refused(411, "the request has no Content-Length: send its body whole, not in chunks")
        limit, size, data = self.config.request_bytes, 0, bytearray()
        try:
            async with asyncio.timeout(self.config.body_seconds):
                async for part in request.stream():
                    size += len(part)
                    if size <= limit:
                        data += part
                    elif size > _DRAINED * limit:
                        break
        except TimeoutError:
            raise Refused(408, f"the request did not arrive within {self.config.body_seconds:g} s") from None
        if size > limit:
            raise Refused(413, f"the request is longer than {limit} bytes")
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            raise Refused(400, "the request is not JSON in UTF-8") from None
        if not isinstance(body, dict):
            raise Refused(400, "the request is not a JSON object")
        return body

    async def _chunks(self, request, parsed: Request) -> AsyncGenerator[dict[str, Any], None]:
        """llama.cpp's chunks, in turn with other requests; the computation stops when the client disconnects."""
        self._inside += 1
        stopped = threading.Event()
        try:
            async with self._turns:
                loop = asyncio.get_running_loop()
                queue: asyncio.Queue[dict | None] = asyncio.Queue()

                def take(chunk: dict) -> bool:
                    loop.call_soon_threadsafe(queue.put_nowait, chunk)
                    return stopped.is_set()

                def compute() -> None:
                    try:
                        self.model.complete(parsed.completion, take)
                    except Exception as error:  # its message may hold text, its type does not
                        take({"error": {"message": f"the computation failed ({type(error).__name__})"}})
                    finally:
                        loop.call_soon_threadsafe(queue.put_nowait, None)

                if await request.is_disconnected():  # while it waited for its turn
                    return
                worker, checked_at = loop.run_in_executor(None, compute), loop.time()
                try:
                    while True:
                        chunk: Any = ...
                        with contextlib.suppress(TimeoutError):
                            chunk = await asyncio.wait_for(queue.get(), _DISCONNECTED_SECONDS)
                        if loop.time() - checked_at >= _DISCONNECTED_SECONDS:
                            if await request.is_disconnected():
                                return
                            checked_at = loop.time()
                        if chunk is ...:
                            continue
                        if chunk is None:
                            break
                        if "error" in chunk:
                            raise Refused(400 if chunk["error"].get("code") == 400 else 500, chunk["error"]["message"])
                        self.tokens += 1
                        yield chunk
                    self.requests += 1
                finally:
                    stopped.set()
                    await asyncio.shield(worker)  # the turn ends when llama.cpp has stopped
        finally:
            self._inside -= 1

    async def _events(self, response: ResponseBuilder, first: dict, chunks: AsyncGenerator[dict, None]
                      ) -> AsyncIterator[str]:
        try:
            yield _event(response.add(first))
            async for chunk in chunks:
                yield _event(response.add(chunk))
        except Refused as refused:
            yield _event({"error": {"message": str(refused), "code": refused.status}})
            return
        finally:
            await chunks.aclose()
        if response.request.include_usage:
            yield _event(response.part([]) | {"usage": response.usage})
        yield "data: [DONE]\n\n"


def _event(value: dict) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _json(status: int, value: dict):
    from starlette.responses import JSONResponse
    return JSONResponse(value, status)


def _error(refused: Refused, headers: Mapping[str, str] | None = None):
    from starlette.responses import JSONResponse
    error_type = "invalid_request_error" if refused.status < 500 else "server_error"
    error = {"message": str(refused), "type": error_type, "param": None, "code": refused.status}
    return JSONResponse({"error": error}, refused.status, headers)


async def _unknown(request, error):
    """Starlette's answer to an unknown route or method, in OpenAI's format."""
    message = {404: "the routes are /v1/chat/completions, /v1/completions, /v1/models and /health",
               405: f"{request.method} is not a method of this route"}.get(error.status_code, error.detail)
    return _error(Refused(error.status_code, message), error.headers)


async def _failed(request, error):
    return _error(Refused(500, f"the server failed ({type(error).__name__})"))  # its message may hold text
