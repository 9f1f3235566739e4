"""Which hosts are asked by a proxy."""

from __future__ import annotations

import pytest

from specrun.errors import UsageError
from specrun.registry.proxies import proxy_for

HOSTS = {
    ("registry.example.com", 443): {"": True, "*": False, "example.com": False, ".example.com": False},
    ("example.com", 443): {"example.com": False, ".example.com": True, "example.com:443": False, "ample.com": True},
    ("registry.example.com.", 443): {"*.example.com": False, "registry.example.com:80": True, "com": False},
    ("192.0.2.7", 5000): {"192.0.2.0/24": False, "192.0.2.7": False, "192.0.2.7:5000": False, "192.0.2.7:1": True},
    ("2001:db8::7", 443): {"2001:db8::/32": False, "[2001:db8::7]:443": False, "2001:DB8:0::7": False, "::/x": True},
    ("[2001:db8::7]", 443): {"2001:db8::7": False, "192.0.2.0/24": True},
    ("localhost", 443): {"": False},
    ("127.8.8.8", 80): {"": False},
    ("::1", 80): {"": False},
}
CASES = [(*place, excepted, proxied) for place, cases in HOSTS.items() for excepted, proxied in cases.items()]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(("host", "port", "excepted", "proxied"), CASES)
def test_hosts_that_are_asked_directly(
    monkeypatch: pytest.MonkeyPatch, host: str, port: int, excepted: str, proxied: bool
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", f"other.example, {excepted}")
    found = proxy_for("https", host, port)
    assert (found is not None) == proxied
    assert proxy_for("http", host, port) is None, "there is none for this scheme"


@pytest.mark.parametrize(
    ("text", "shown", "authorization"),
    [
        ("http://proxy.example", "proxy.example:80", ""),
        ("proxy.example:3128", "proxy.example:3128", ""),
        ("http://a%40b:c@proxy.example:1/", "proxy.example:1", "Basic YUBiOmM="),
    ],
)
def test_what_names_a_proxy(monkeypatch: pytest.MonkeyPatch, text: str, shown: str, authorization: str) -> None:
    monkeypatch.setenv("http_proxy", text)
    found = proxy_for("http", "registry.example", 80)
    assert found is not None and (str(found), found.authorization) == (shown, authorization)


@pytest.mark.parametrize("text", ["socks5://u:secret@x:1", "https://x", "http://:80", "http://x:port", "http://x:0:0"])
def test_what_names_none_is_said_without_its_password(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", text)
    with pytest.raises(UsageError, match="HTTPS_PROXY names no proxy") as error:
        proxy_for("https", "registry.example", 443)
    assert "secret" not in str(error.value)
