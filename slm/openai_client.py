"""The one place that connects to an OpenAI-compatible server: who may see prompts, and who the key."""

import ipaddress
import os
import socket
from typing import Any
from urllib.parse import urlsplit

_OPENAI = "api.openai.com"
_NO_KEY = "none"  # the client insists on a key, servers without one ignore it
# Headers that the client fills from the environment, which other servers have no use for.
_ACCOUNT = ("OpenAI-Organization", "OpenAI-Project")


def connect(base_url: str, timeout: float, retries: int, api_key_variable: str = "", asynchronous: bool = False,
            http_client: Any = None) -> Any:
    """An `openai.OpenAI`, or `openai.AsyncOpenAI`, that sends requests to `base_url` alone.

    This machine is never asked through a proxy, and no server's redirection is followed.

    Args:
      timeout: seconds per attempt.
      api_key_variable: the environment's variable with the server's key; empty: OPENAI_API_KEY, for OpenAI only.
      http_client: of tests, instead of one over the network.

    Raises:
      ValueError: not a URL, or a variable that is not set.
      RuntimeError: without the openai client.
    """
    try:
        address = urlsplit(base_url)
        host, valid = address.hostname or "", address.scheme in ("http", "https") and address.port != 0
    except ValueError:  # of the brackets or the port
        host, valid = "", False
    if not (host and valid):
        raise ValueError(f"base_url={base_url!r}: name the server that may receive the prompts, for example "
                         "http://localhost:8000/v1")
    is_openai = host == _OPENAI and address.scheme == "https"
    key = os.environ.get(api_key_variable or ("OPENAI_API_KEY" if is_openai else ""), "")
    if api_key_variable and not key:
        raise ValueError(f"api_key_variable={api_key_variable} is not set in the environment: export "
                         f"{api_key_variable}=KEY, or leave the setting empty for a server without a key")
    try:
        import openai
    except ImportError:
        raise RuntimeError("a model behind an endpoint needs the openai client: pip install openai") from None
    custom = [line.partition(":")[0].strip() for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()]
    withheld = [] if is_openai else [*_ACCOUNT, *filter(None, custom)]
    settings: dict[str, Any] = {
        "base_url": base_url, "timeout": timeout, "max_retries": retries, "api_key": key or _NO_KEY,
        "default_headers": {name: openai.Omit() for name in withheld}}
    network: dict[str, Any] = {"trust_env": not is_loopback(host), "follow_redirects": False}
    if asynchronous:
        return openai.AsyncOpenAI(http_client=http_client or openai.DefaultAsyncHttpxClient(**network), **settings)
    return openai.OpenAI(http_client=http_client or openai.DefaultHttpxClient(**network), **settings)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine, in any spelling that the system would connect to it."""
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(host))  # 127.1, 2130706433
        except OSError:
            return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified
