"""Counting in Redis, with a real redis-server: what is shared, what is in it, and what happens when it is not there."""

import asyncio
import builtins
import logging
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agentgate import (
    LLM,
    APIKeyAuth,
    ConfigurationError,
    Gate,
    HTTPBackend,
    RateLimit,
    RedisStore,
    Route,
    Secret,
    StaticKeys,
    any_of,
    create_gateway,
    new_key,
    shadow,
)
from agentgate.limits import redis as redis_module
from agentgate.testing import Exchange, Recorder, drive, http_scope

RedisServer = Any  # of tests/conftest.py

pytest.importorskip("redis", reason="redis is not installed: it comes with the extra redis")
pytest.importorskip("limits", reason="limits is not installed: it comes with the extra redis")

pytestmark = pytest.mark.anyio

KEY, OTHER = new_key(), new_key()
KEYS = APIKeyAuth(StaticKeys({"alice@example.com": KEY, "bob": OTHER}))


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'{"usage": {"prompt_tokens": 40, "completion_tokens": 20}}'})


@asynccontextmanager
async def store_at(server: RedisServer, **options: Any) -> AsyncIterator[RedisStore]:
    store = RedisStore(server.url, **{"timeout": 10, **options})  # machines are busy
    try:
        yield store
    finally:
        await store.aclose()


def gated(store: RedisStore, requests: int = 3, key: str = "principal", **options: Any) -> Gate:
    limit = RateLimit(requests=requests, per="hour", name="api", store=store, key=key, **options)
    return Gate(app, authenticate=[KEYS], authorize=[limit], mode="optional")


async def ask(gate: Gate, key: str | None = KEY, **headers: str) -> Exchange:
    return await drive(gate, http_scope(headers={"authorization": f"Bearer {key}", **headers} if key else headers))


async def test_replicas_spend_one_budget(redis_server: RedisServer) -> None:
    async with store_at(redis_server) as one, store_at(redis_server) as other:
        gates = [gated(one), gated(other)]
        told = []
        for n in range(4):
            exchange = await ask(gates[n % 2])
            told.append((exchange.status, exchange.headers["x-ratelimit-remaining"]))
        assert told == [(200, "2"), (200, "1"), (200, "0"), (429, "0")]
        assert 3595 <= int(exchange.headers["retry-after"]) <= 3601
        assert (await ask(gates[0], OTHER)).status == 200


async def test_of_many_at_once_exactly_as_many_pass(redis_server: RedisServer) -> None:
    async with store_at(redis_server) as one, store_at(redis_server) as other:
        gates = [gated(one, 37), gated(other, 37)]
        found = await asyncio.gather(*(ask(gates[n % 2]) for n in range(120)))
        statuses = [exchange.status for exchange in found]
        assert (statuses.count(200), statuses.count(429)) == (37, 83)
        assert b"connected_clients" in redis_server.ask("INFO", "clients")
        clients = re.search(rb"connected_clients:(\d+)", redis_server.ask("INFO", "clients"))
        assert clients is not None
        assert int(clients[1]) <= 2 * redis_module.MAX_CONNECTIONS + 1


async def test_limits_of_other_names_and_windows_are_others(redis_server: RedisServer) -> None:
    async with store_at(redis_server) as store:
        for options in ({"name": "a"}, {"name": "b"}, {"name": "a", "per": 7200}, {"name": "a", "key": []}):
            limit = RateLimit(**{"requests": 1, "per": "hour", "store": store, **options})  # type: ignore[arg-type]
            gate = Gate(app, authorize=[limit])
            assert [(await ask(gate, None)).status for _ in range(2)] == [200, 429]
    async with store_at(redis_server, namespace="another") as store:
        limit = RateLimit(requests=1, per="hour", store=store, name="a")
        assert (await ask(Gate(app, authorize=[limit]), None)).status == 200


async def test_what_is_in_the_store(redis_server: RedisServer) -> None:
    """Names that say nothing of anybody, and an end for each of them."""
    async with store_at(redis_server, namespace="gate:one") as store:
        gate = gated(store, key='default(request.headers["x-tenant"], "none")')
        for tenant in ("a", "a}{b", "*", "a/-1", "a b", "x" * 2000, "none"):
            assert (await ask(gate, **{"x-tenant": tenant})).status == 200
        assert (await ask(gated(store))).status == 200
        keys = redis_server.keys()
        assert len(keys) == 8
    for key in keys:
        assert re.fullmatch(r"gate:one:\{[0-9a-f]{64}\}", key)
        assert 0 < int(redis_server.ask("PTTL", key)[1:]) <= 2 * 3600 * 1000


async def test_tokens_are_charged_behind_the_answer(redis_server: RedisServer) -> None:
    async with store_at(redis_server) as one, store_at(redis_server) as other:
        gates = [
            Gate(
                app,
                authorize=[RateLimit(tokens=100, per="hour", name="tokens", store=store)],
                protocol=LLM(),
            )
            for store in (one, other)
        ]
        chat = http_scope("POST", "/v1/chat/completions", headers={"content-type": "application/json"})
        found = []
        for gate, store in zip(gates * 2, [one, other] * 2, strict=True):
            exchange = await drive(gate, chat, body=b'{"model": "m"}')
            found.append((exchange.status, exchange.headers["x-ratelimit-remaining"]))
            await store.aclose()  # has it charged
        assert found == [(200, "100"), (200, "40"), (429, "0"), (429, "0")]


# -- what goes wrong -------------------------------------------------------------------------------------------------


def limit_of(gate: Gate) -> RateLimit:
    (limit,) = gate.authorize
    assert isinstance(limit, RateLimit)
    return limit


async def failing(url: str, caplog: Any, timeout: float = 0.3) -> None:
    """Nobody passes, and the log tells it once; whoever is to pass all the same does, and the trail tells it."""
    store = RedisStore(url, timeout=timeout)
    recorder = Recorder()
    for on_store_error, status in (("deny", 500), ("allow", 200)):
        limit = RateLimit(requests=9, per="hour", name="api", store=store, on_store_error=on_store_error)  # type: ignore[arg-type]
        gate = Gate(app, authorize=[limit], observe=[recorder])
        for _ in range(2):
            exchange = await ask(gate, None)
            assert exchange.status == status
            assert "x-ratelimit-limit" not in exchange.headers
        detail = recorder.last.trail[-1].detail
        assert re.fullmatch(r"(not counted: )?the store failed: \w+", detail)
        assert detail.startswith("not counted") == (status == 200)
        if status == 500:
            assert exchange.text == "rate limit failed"
    assert [record.levelname for record in caplog.records if record.name == "agentgate.limits"] == ["ERROR"]
    await store.aclose()


async def test_nobody_is_there(tmp_path: Path, caplog: Any) -> None:
    await failing(f"unix://{tmp_path}/nobody.sock", caplog)


@asynccontextmanager
async def a_redis(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[str]:
    """A server that answers each piece of what it is sent; None: it closes the connection."""
    tasks: set[Any] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            while data := await reader.read(1 << 16):
                said = answer(data)
                if said is None:
                    break
                writer.write(said)
        except (ConnectionError, asyncio.CancelledError):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda data: b"", id="it hangs"),
        pytest.param(lambda data: None, id="it hangs up"),
        pytest.param(lambda data: b"-OOM command not allowed when used memory > 'maxmemory'\r\n" * 4, id="it is full"),
        pytest.param(lambda data: b"-NOAUTH Authentication required.\r\n" * 4, id="it wants a password"),
        pytest.param(lambda data: b"HTTP/1.1 400 Bad Request\r\n\r\n", id="it is another server"),
        pytest.param(lambda data: b"$-1\r\n" * 8, id="it knows nothing"),
        pytest.param(lambda data: b":1\r\n" * 8, id="it answers another question"),
        pytest.param(lambda data: b"*4\r\n$1\r\nx\r\n$1\r\nx\r\n$1\r\nx\r\n$1\r\nx\r\n" * 4, id="it answers nonsense"),
    ],
)
async def test_a_store_that_is_none(answer: Any, caplog: Any) -> None:
    async with a_redis(answer) as url:
        await failing(url, caplog)


async def test_a_frozen_store_holds_nobody_for_longer_than_the_timeout(redis_server: RedisServer) -> None:
    async with store_at(redis_server, timeout=0.2) as store:
        gate = gated(store, 1000)
        assert (await ask(gate)).status == 200
        os.kill(redis_server.process.pid, signal.SIGSTOP)
        try:
            begun = asyncio.get_running_loop().time()
            found = await asyncio.gather(*(ask(gate) for _ in range(100)))
            took = asyncio.get_running_loop().time() - begun
        finally:
            os.kill(redis_server.process.pid, signal.SIGCONT)
        assert {exchange.status for exchange in found} == {500}
        assert took < 5  # a hundred of them, at once
        assert (await ask(gate)).status == 200


async def test_a_store_that_comes_back(redis_server: RedisServer, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "agentgate.limits")
    async with store_at(redis_server) as store:
        gate = gated(store)
        assert (await ask(gate)).status == 200
        redis_server.stop()
        assert [(await ask(gate)).status for _ in range(3)] == [500, 500, 500]
        redis_server.start()
        # It has forgotten everything, its scripts too, and is asked over connections that it closed.
        assert [(await ask(gate)).status for _ in range(4)] == [200, 200, 200, 429]
        redis_server.ask("SCRIPT", "FLUSH")
        assert (await ask(gate)).status == 429
        redis_server.ask("FLUSHALL")
        assert (await ask(gate)).status == 200
    told = [record.getMessage() for record in caplog.records if record.name == "agentgate.limits"]
    assert len(told) == 2
    assert re.fullmatch(r"RedisStore\('agentgate'\) failed: \w+ at \w+\.py:\d+", told[0])
    assert told[1] == "RedisStore('agentgate') answers again"


async def test_a_connection_that_the_server_closed_costs_no_refusal(redis_server: RedisServer) -> None:
    async with store_at(redis_server) as store:
        gate = gated(store)
        assert (await ask(gate)).status == 200
        redis_server.ask("CLIENT", "KILL", "TYPE", "normal")
        assert (await ask(gate)).status == 200


async def test_a_request_that_goes_away_leaves_nobody_its_answer(redis_server: RedisServer) -> None:
    """Whenever it is cancelled: the next one who gets the connection is told of its own bucket."""
    async with store_at(redis_server) as store:
        gate = gated(store, 1000)
        full = gated(store, 1, key='"full"')
        assert [(await ask(full)).status for _ in range(2)] == [200, 429]
        for turns in range(60):
            task = asyncio.ensure_future(ask(gate))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert (await ask(full)).status == 429
            exchange = await ask(gate, OTHER)
            assert (exchange.status, exchange.headers["x-ratelimit-remaining"]) == (200, str(999 - turns))


async def test_a_value_that_is_no_count(redis_server: RedisServer, caplog: Any) -> None:
    async with store_at(redis_server) as store:
        gate = gated(store)
        await ask(gate)
        (key,) = redis_server.keys()
        redis_server.ask("SET", key, "many", "EX", "5000")
        assert (await ask(gate)).status == 500


async def test_a_gateway_closes_what_its_policies_hold(redis_server: RedisServer) -> None:
    store, other = RedisStore(redis_server.url, timeout=10), RedisStore(redis_server.url, timeout=10)
    limits = [
        RateLimit(tokens=9, per="hour", name=name, store=one)
        for name, one in (("a", store), ("b", store), ("c", other))
    ]
    route = Route("/", HTTPBackend("http://127.0.0.1:9"), authorize=[any_of(limits[1]), shadow(limits[2])])
    gateway = create_gateway(route, authorize=[limits[0], RateLimit(requests=1, per="day")])
    for limit in limits:
        limit._counting.charge(("principal", "a"), 9)
    await drive(gateway, {"type": "lifespan"})
    assert (store._pool, store._owed, other._pool, other._owed) == (None, {}, None, {})
    assert len(redis_server.keys()) == 3


async def test_what_cannot_be_charged_now_is_charged_later(redis_server: RedisServer, caplog: Any) -> None:
    async with store_at(redis_server) as store:
        counting = store.counting("api", 3600)
        bucket = ("principal", "a")
        redis_server.stop()
        counting.charge(bucket, 5)
        counting.charge(bucket, 2)
        assert store._paying is not None
        await store._paying
        redis_server.start()
        assert (await counting.look(bucket)).used == 7  # charged by then, or counted in
        await store._paying
        assert store._owed == {}
        assert (await counting.look(bucket)).used == 7


async def test_a_look_that_fails_forgets_no_charge(tmp_path: Path) -> None:
    store = RedisStore(f"unix://{tmp_path}/nobody.sock")
    limit = RateLimit(tokens=100, per="hour", name="tokens", store=store)
    gate = Gate(app, authorize=[limit], protocol=LLM())
    chat = http_scope("POST", "/v1/chat/completions", headers={"content-type": "application/json"})
    assert (await drive(gate, chat, body=b'{"model": "m"}')).status == 500
    assert store._owed == {}  # it was not let through
    store.counting("tokens", 3600).charge(("peer", "127.0.0.1"), 60)
    for _ in range(2):
        assert (await drive(gate, chat, body=b'{"model": "m"}')).status == 500
        assert [*store._owed.values()] == [60]
    await store.aclose()


async def test_more_may_come_while_it_is_being_charged(redis_server: RedisServer) -> None:
    async with store_at(redis_server) as store:
        counting, bucket = store.counting("api", 3600), ("principal", "a")
        counting.charge(bucket, 5)
        await asyncio.sleep(0)
        counting.charge(bucket, 2)
        counting.charge(("principal", "b"), 1)
        assert store._paying is not None
        await store._paying
        assert store._owed == {}
        assert (await counting.look(bucket)).used == 7
        assert (await counting.look(("principal", "b"))).used == 1


async def test_what_is_owed_is_bounded(monkeypatch: Any, tmp_path: Path, caplog: Any) -> None:
    monkeypatch.setattr(redis_module, "MAX_OWED", 2)
    store = RedisStore(f"unix://{tmp_path}/nobody.sock")
    counting = store.counting("api", 3600)
    for n in range(4):
        counting.charge(("principal", str(n)), 5)
    counting.charge(("principal", "0"), 5)
    assert sorted(store._owed.values()) == [5, 10]
    assert caplog.text.count("5 tokens are not charged") == 2
    await store.aclose()


async def test_a_store_that_nobody_has_used_is_closed(redis_server: RedisServer) -> None:
    await RedisStore(redis_server.url, timeout=10).aclose()


def test_a_store_is_used_by_one_loop_after_the_other(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url, timeout=10)
    gate = gated(store, 2)

    async def once() -> int | None:
        try:
            return (await ask(gate)).status
        finally:
            await store.aclose()

    assert [asyncio.run(once()) for _ in range(3)] == [200, 200, 429]


def test_a_store_that_another_loop_has_left_open(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url, timeout=10)
    gate = gated(store, 1)

    async def left_open() -> int | None:
        exchange = await ask(gate)
        await store._pool.disconnect()  # or it would be a ResourceWarning
        return exchange.status

    async def closed() -> int | None:
        exchange = await ask(gate)
        await store.aclose()
        return exchange.status

    assert [asyncio.run(left_open()), asyncio.run(closed())] == [200, 429]


# -- configuration ---------------------------------------------------------------------------------------------------

URL = "the store is at a URL, such as redis://cache:6379, with one of redis, rediss, unix, valkey, valkeys"


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        *(
            ({"url": url}, [URL])
            for url in (
                "http://cache",
                "redis:cache",
                "redis+sentinel://a:1,b:2/c",
                "",
                7,
                None,
                "redis://",
                "redis://hunter2:x@host:port",
                "redis://cache/x/y?socket_timeout=soon",
                "unix://",
            )
        ),
        ({"url": "redis://cache", "namespace": ""}, ["namespace is some printable ASCII text"]),
        ({"url": "redis://cache", "namespace": "a b\n"}, ["namespace is some printable ASCII text"]),
        ({"url": "redis://cache", "namespace": None}, ["namespace is some printable ASCII text"]),
        *(
            ({"url": "redis://cache", "timeout": bad}, ["timeout is a number of seconds, at most 60"])
            for bad in (0, -1, 61, float("nan"), float("inf"), True, "1", None)
        ),
        ({"url": "", "namespace": "", "timeout": 0}, [URL, None, None]),
    ],
)
def test_configuration_that_is_wrong(options: Any, faults: list[str | None]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisStore(**options)
    assert len(caught.value.faults) == len(faults)
    for found, expected in zip(caught.value.faults, faults, strict=True):
        assert expected is None or found == expected
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://cache:6379/3", "rediss://cache", "unix:///run/redis.sock?db=2", "valkey://c", "valkeys://c"]
)
def test_where_a_store_may_be(url: str) -> None:
    assert repr(RedisStore(url)) == "RedisStore('agentgate')"


def test_a_password_is_not_shown() -> None:
    store = RedisStore(Secret("redis://gate:hunter2@cache:6379"), namespace="n")
    assert "hunter2" not in repr(store) + repr(vars(store))


def test_with_a_store_a_limit_has_a_name() -> None:
    with pytest.raises(ConfigurationError, match="name is needed with a store: limits of one name there are one limit"):
        RateLimit(requests=1, per="day", store=RedisStore("redis://cache"))


def test_limits_in_memory_need_no_extra(monkeypatch: Any) -> None:
    def importing(name: str, *args: Any, **kwargs: Any) -> Any:
        assert name.partition(".")[0] not in ("limits", "redis") or args[3]
        return real(name, *args, **kwargs)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", importing)
    assert RateLimit(requests=1, per="day").seconds == 86400
