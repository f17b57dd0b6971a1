"""TLS: who is believed, and where a response ends when somebody cuts the connection short."""

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import certifi
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection, serve

from agentgate import CELRules, ConfigurationError, Gate, HTTPBackend, WebSockets
from agentgate.proxy.upstream import PoolTransport
from agentgate.testing import Exchange, Recorder, drive, http_scope, websocket_scope

from .upstream_server import OK, Peer, answering, at_rest, fetch, serving

pytestmark = pytest.mark.anyio

EMPTY = "PoolTransport(0 open, 0 idle, 0 waiting)"
RESTING = "PoolTransport(1 open, 1 idle, 0 waiting)"


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": fast}), id="uvloop" if fast else "asyncio") for fast in (False, True)
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


def certificate(
    subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey, *, ca: bool
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem, and server.pem signed by it: made for this run, trusted by nobody else."""
    directory = tmp_path_factory.mktemp("authority")
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(certificate("test CA", ca_key, "test CA", ca_key, ca=True).public_bytes(pem))
    (directory / "server.pem").write_bytes(
        certificate("server", key, "test CA", ca_key, ca=False).public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return directory


@pytest.fixture
def identity(authority: Path) -> ssl.SSLContext:
    """What the server proves itself with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem")
    return context


@pytest.fixture
def trust(authority: Path) -> ssl.SSLContext:
    """What a client checks it against."""
    return ssl.create_default_context(cafile=authority / "ca.pem")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_server_with_a_good_certificate_is_believed(
    host: str, identity: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    async with serving(answering(OK), tls=identity) as server, PoolTransport(verify=trust) as transport:
        url = server.origin.replace("127.0.0.1", host)
        for _ in range(3):
            assert await fetch(transport, httpx.Request("GET", url)) == (200, b"ok")
        assert server.accepted == 1
        assert repr(transport) == RESTING


async def test_nobody_else_is_believed(
    identity: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, authority: Path
) -> None:
    """By default certifi's authorities count, and no environment variable can add one."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    async with serving(answering(OK), tls=identity) as server, PoolTransport() as transport:
        request = server.request(headers={"authorization": "secret"})
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            await fetch(transport, request)
        assert caught.value.request is request
        assert "secret" not in str(caught.value)
        assert repr(transport) == EMPTY


async def test_the_default_context_is_built_once_and_late(
    identity: ssl.SSLContext, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certifi, "where", lambda: str(authority / "ca.pem"))
    built: list[bool] = []

    def build(*, verify: bool, trust_env: bool) -> ssl.SSLContext:
        built.append(trust_env)
        return original(verify=verify, trust_env=trust_env)

    original = httpx.create_ssl_context
    monkeypatch.setattr(httpx, "create_ssl_context", build)
    async with (
        serving(answering(OK), tls=identity) as one,
        serving(answering(OK), tls=identity) as two,
        serving(answering(OK)) as plain,
        PoolTransport() as transport,
    ):
        await fetch(transport, plain.request())
        assert built == []
        await fetch(transport, one.request())
        await fetch(transport, two.request())
        assert built == [False]


async def test_a_certificate_for_another_name_is_refused(identity: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    async with (
        serving(answering(OK), tls=identity, host="127.0.0.2") as server,  # the loopback network is wide
        PoolTransport(verify=trust) as transport,
    ):
        with pytest.raises(httpx.ConnectError, match=r"IP address mismatch.*127\.0\.0\.2"):
            await fetch(transport, server.request())
        assert repr(transport) == EMPTY


async def test_a_certificate_may_be_for_a_name_that_is_not_the_urls(authority: Path, trust: ssl.SSLContext) -> None:
    """Then that name alone counts, and it is the one that the server is told (SNI)."""
    told: list[str | None] = []
    identity = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity.load_cert_chain(authority / "server.pem")
    identity.sni_callback = lambda tls, name, context: told.append(name)
    async with serving(answering(OK), tls=identity, host="127.0.0.2") as server:
        async with PoolTransport(verify=trust, server_hostname="localhost") as transport:
            assert await fetch(transport, server.request()) == (200, b"ok")
        async with PoolTransport(verify=trust, server_hostname="other.example") as transport:
            with pytest.raises(httpx.ConnectError, match=r"Hostname mismatch.*other\.example"):
                await fetch(transport, server.request())
    assert told == ["localhost", "other.example"]


@pytest.mark.parametrize("name", ["", "a b", "\u00e4", "a\n", 7])
def test_what_is_no_name_of_a_server(name: str) -> None:
    with pytest.raises(ConfigurationError, match="server_hostname must be a host name"):
        PoolTransport(server_hostname=name)


async def test_a_server_may_want_to_know_its_client(authority: Path, identity: ssl.SSLContext) -> None:
    """Through a backend: with a certificate it answers, and without one the gateway's client is told nothing of it."""
    identity.verify_mode = ssl.CERT_REQUIRED
    identity.load_verify_locations(authority / "ca.pem")
    for known, status in ((True, 200), (False, 502)):
        context = ssl.create_default_context(cafile=authority / "ca.pem")
        if known:
            context.load_cert_chain(authority / "server.pem")
        recorder = Recorder()
        async with serving(answering(OK), tls=identity) as server:
            backend = HTTPBackend(server.origin, transport=PoolTransport(verify=context))
            exchange = await drive(Gate(backend.app, observe=[recorder]), http_scope())
            await backend.aclose()
        assert exchange.status == status
        assert exchange.text == ("ok" if known else "upstream call failed")


async def test_without_verification_anybody_is_believed(identity: ssl.SSLContext) -> None:
    async with serving(answering(OK), tls=identity) as server, PoolTransport(verify=False) as transport:
        assert await fetch(transport, server.request()) == (200, b"ok")


async def test_plain_http_and_https_do_not_share_connections(identity: ssl.SSLContext) -> None:
    """A server that speaks no TLS is no https server."""

    async def script(peer: Peer) -> None:
        while await peer.exactly(1) == b"G":
            await peer.head()
            peer.send(OK)

    async with serving(script) as server, PoolTransport(verify=False) as transport:
        assert await fetch(transport, server.request()) == (200, b"ok")
        with pytest.raises(httpx.ConnectError):
            await fetch(transport, httpx.Request("GET", server.origin.replace("http", "https")))
        assert repr(transport) == RESTING


@pytest.mark.parametrize(("offered", "chosen"), [(["http/1.1"], True), (["h2", "http/1.1"], False), ([], True)])
async def test_only_http_1_1_is_spoken(
    offered: list[str], chosen: bool, identity: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    """A context that offers HTTP/2 by mistake is found out by the server's choice."""
    identity.set_alpn_protocols(["h2", "http/1.1"])
    if offered:
        trust.set_alpn_protocols(offered)
    async with serving(answering(OK), tls=identity) as server, PoolTransport(verify=trust) as transport:
        if chosen:
            assert await fetch(transport, server.request()) == (200, b"ok")
        else:
            with pytest.raises(httpx.ConnectError, match=r"other than http/1\.1"):
                await fetch(transport, server.request())
            assert repr(transport) == EMPTY


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("proper", [True, False], ids=["close_notify", "cut short"])
async def test_a_body_that_ends_with_the_connection_needs_a_proper_end(
    proper: bool, version: ssl.TLSVersion, identity: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    """RFC 9112 §9.8: anybody on the way can close a TCP connection, only the server can close a TLS connection."""
    identity.maximum_version = version

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nok")
        if proper:
            peer.end()
            await peer.writer.wait_closed()
        else:
            peer.half_close_tcp()
            await peer.gone()

    async with serving(script, tls=identity) as server, PoolTransport(verify=trust) as transport:
        response = await transport.handle_async_request(server.request())
        if proper:
            assert await response.aread() == b"ok"
        else:
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                await response.aread()
        assert repr(transport) == EMPTY


async def test_large_bodies_in_both_directions(identity: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    size = 3 * 1024 * 1024

    async def script(peer: Peer) -> None:
        while True:
            await peer.head()
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + await peer.exactly(size))

    async with serving(script, tls=identity) as server, PoolTransport(verify=trust) as transport:
        for _ in range(2):
            _, body = await fetch(transport, server.request("POST", content=b"x" * size))
            assert body == b"x" * size
        assert server.accepted == 1
        assert repr(transport) == RESTING


async def test_cancelled_at_any_point_of_the_handshake(identity: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    """However far it has come, the slot returns, and the next request is served."""
    async with serving(answering(OK), tls=identity) as server:
        for turns in range(40):
            async with PoolTransport(max_connections=1, verify=trust) as transport:
                task = asyncio.create_task(fetch(transport, server.request()))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await at_rest(transport)
                assert await fetch(transport, server.request()) == (200, b"ok")


async def websocket(identity: ssl.SSLContext, transport: PoolTransport) -> Exchange:
    """What becomes of one that says `hello` to a server with this identity, which says it again and closes."""

    async def echo(connection: ServerConnection) -> None:
        await connection.send(await connection.recv())
        await connection.close(4000)

    async with serve(echo, "127.0.0.1", 0, ssl=identity) as server:
        url = f"https://localhost:{next(iter(server.sockets)).getsockname()[1]}"
        backend = HTTPBackend(url, transport=transport, websockets=WebSockets())
        gate = Gate(backend.app, authorize=[CELRules(allow=["true"])])
        answered = await drive(gate, websocket_scope("/"), incoming=["hello"])
        await backend.aclose()
        return answered


async def test_a_websocket_is_opened_with_the_same_tls(identity: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    answered = await websocket(identity, PoolTransport(verify=trust))
    assert [message.get("text") for message in answered.messages[1:-1]] == ["hello"]
    assert answered.close_code == 4000


async def test_a_websocket_is_not_opened_to_somebody_else(identity: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    assert (await websocket(identity, PoolTransport())).status == 503
    trust.set_alpn_protocols(["h2"])
    identity.set_alpn_protocols(["h2"])
    assert (await websocket(identity, PoolTransport(verify=trust))).status == 503
