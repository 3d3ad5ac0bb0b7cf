"""Security to the cluster, on a real broker: every way in, and why one is kept out."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outlast import AsyncClient
from outlast.core.errors import KafkaUnreachable, SettingsError
from outlast.edges.kafka.connection import connect
from outlast.edges.kafka.membership import Membership
from outlast.edges.kafka.security import tls
from outlast.edges.kafka.subscribers import connected_broker, feed_subscriber
from outlast.edges.settings import Kafka
from tests.e2e.scene import scene
from tests.kafka.cluster import place
from tests.kafka.secured import KEY_PASSWORD, PASSWORD, WAYS, Fortress, fortress

pytestmark = pytest.mark.kafka
BODY = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def walls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fortress]:
    with fortress(tmp_path_factory.mktemp("fortress")) as made:
        yield made


class Silent:
    """Nobody need be told of an assignment."""

    async def on_partitions_revoked(self, revoked: object) -> None: ...

    async def on_partitions_assigned(self, assigned: object) -> None: ...


async def read_one(kafka: Kafka, topic: str) -> Any:
    """The first record, through FastStream's connection as the stages have it."""
    broker = await connected_broker(kafka)
    subscriber = feed_subscriber(
        broker,
        kafka,
        (topic,),
        group=f"{kafka.prefix}-g",
        instance="i",
        listener=Silent(),
        membership=Membership("i.0a0a0a0a"),
    )
    await subscriber.start()
    try:
        async with asyncio.timeout(30):
            return await subscriber.consumer.getone()
    finally:
        await subscriber.leave()
        await broker.stop()


@pytest.mark.parametrize("way", WAYS)
async def test_a_job_is_published_and_read_in_every_way_in(walls: Fortress, way: str) -> None:
    servers = walls.servers(way.split()[0])
    async with place(servers, **walls.settings(way)) as here:
        await here.apply()
        async with AsyncClient(here.kafka) as client:
            job = await client.publish(BODY, job_id="a")

        record = await read_one(here.kafka, here.topics.jobs)

    assert (record.partition, record.offset, record.key) == (job.partition, job.offset, b"a")


@pytest.mark.e2e
async def test_a_job_goes_from_publish_to_result_over_tls_and_scram(
    walls: Fortress, tmp_path: Path
) -> None:
    kafka = Kafka(**walls.settings("SASL_SSL SCRAM-SHA-512"))
    lines = f"""partitions = 2
security_protocol = "SASL_SSL"
sasl_mechanism = "SCRAM-SHA-512"
sasl_username = "alice"
sasl_password_file = "{walls.file("password")}"
ssl_cafile = "{walls.file("ca.pem")}"
"""
    servers = walls.servers("SASL_SSL")
    async with scene(tmp_path, servers, ["deepseek"], topics=lines, secured=kafka) as world:
        running = await (await world.start()).ready()
        await world.publish("hello")

        [ended] = await world.results(1)

        audited = await world.audited()
        assert await running.stop() == 0
        assert ended.result.status == "succeeded"
        assert audited["exit_code"] == 0
        assert PASSWORD not in world.logs()


async def test_a_first_call_of_the_client_reads_the_settings_of_the_environment(
    walls: Fortress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {
        "OUTLAST_KAFKA__BOOTSTRAP_SERVERS": walls.servers("SASL_SSL"),
        "OUTLAST_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "OUTLAST_KAFKA__SASL_MECHANISM": "SCRAM-SHA-256",
        "OUTLAST_KAFKA__SASL_USERNAME": "alice",
        "OUTLAST_KAFKA__SASL_PASSWORD_ENV": "THE_PASSWORD",
        "OUTLAST_KAFKA__SSL_CAFILE": walls.file("ca.pem"),
        "THE_PASSWORD": PASSWORD,
    }

    async with AsyncClient.from_env(environ):
        pass


# --- kept out -------------------------------------------------------------------------------

SCRAM = "SASL_SSL SCRAM-SHA-512"
REFUSED = "kafka.sasl_username, sasl_mechanism or the password is wrong"


@pytest.mark.parametrize(
    ("to", "way", "changed", "says"),
    [
        ("SASL_SSL", SCRAM, {"sasl_password": "no"}, f"alice by SCRAM-SHA-512: {REFUSED}"),
        ("SASL_SSL", "SASL_SSL PLAIN", {"sasl_password": "no"}, f"alice by PLAIN: {REFUSED}"),
        ("SASL_SSL", SCRAM, {"sasl_username": "bob"}, f"user bob by SCRAM-SHA-512: {REFUSED}"),
        (
            "SASL_SSL",
            "SASL_SSL OAUTHBEARER",
            {"sasl_oauth_token_file": "{bad-token}"},
            "it refused the token: look at the kafka.sasl_oauth_ settings",
        ),
        (
            "SASL_SSL",
            "SASL_SSL OAUTHBEARER",
            {"sasl_oauth_token_file": "/nowhere"},
            "kafka.sasl_oauth_token_file /nowhere cannot be read: No such file or directory",
        ),
        (
            "SASL_SSL",
            SCRAM,
            {"ssl_cafile": None},
            "its certificate is not trusted (unable to get local issuer certificate). "
            "Name the authority that signed it with kafka.ssl_cafile",
        ),
        ("SASL_SSL", SCRAM, {"ssl_cafile": "{other-ca.pem}"}, "its certificate is not trusted"),
        (
            "SASL_SSL localhost",
            SCRAM,
            {},
            "its certificate is not for localhost. Connect to a name that it holds "
            "(kafka.bootstrap_servers), or set kafka.ssl_check_hostname = false",
        ),
        (
            "SSL",
            "SSL",
            {"ssl_certfile": None, "ssl_keyfile": None},
            "it wants a client's certificate",
        ),
        (
            "SSL",
            "SSL",
            {"ssl_certfile": "{foreign.pem}", "ssl_keyfile": "{foreign.pem}"},
            "it refused our certificate",
        ),
        ("SASL_SSL", "PLAINTEXT", {}, "it speaks TLS, and kafka.security_protocol is PLAINTEXT"),
        (
            "SASL_SSL",
            "SASL_PLAINTEXT SCRAM-SHA-512",
            {},
            "it speaks TLS, and kafka.security_protocol is SASL_PLAINTEXT: SSL or SASL_SSL?",
        ),
        ("PLAINTEXT", SCRAM, {}, "it speaks without TLS, and kafka.security_protocol is SASL_SSL"),
        ("PLAINTEXT", "SSL", {}, "it speaks without TLS, and kafka.security_protocol is SSL"),
        (
            "SASL_PLAINTEXT",
            "PLAINTEXT",
            {},
            "it wants SASL, and kafka.security_protocol is PLAINTEXT",
        ),
        (
            "PLAINTEXT",
            "SASL_PLAINTEXT SCRAM-SHA-512",
            {},
            "it wants no SASL: kafka.security_protocol is SASL_PLAINTEXT",
        ),
    ],
)
async def test_who_is_kept_out_hears_why_and_which_setting_to_look_at(
    walls: Fortress, to: str, way: str, changed: dict[str, str | None], says: str
) -> None:
    servers = walls.servers(*to.split())
    files = {key: walls.file(v[1:-1]) for key, v in changed.items() if v and v[0] == "{"}
    kafka = Kafka(bootstrap_servers=servers, **{**walls.settings(way), **changed, **files})

    with pytest.raises(KafkaUnreachable) as caught:
        async with asyncio.timeout(10):
            await connect(kafka)

    text = str(caught.value)
    assert text.startswith(f"Kafka at {servers} cannot be used: ")
    assert says in text
    assert "canary" not in text
    assert "\n" not in text


async def test_a_client_that_was_never_opened_hears_it_at_its_first_publish(
    walls: Fortress,
) -> None:
    settings = {**walls.settings(SCRAM), "sasl_password": "no"}
    client = AsyncClient(Kafka(bootstrap_servers=walls.servers("SASL_SSL"), **settings))

    with pytest.raises(KafkaUnreachable, match="it refused the user alice"):
        await client.publish(BODY)
    await client.close()


async def test_a_command_says_it_on_one_line_and_ends_with_3(
    walls: Fortress, tmp_path: Path
) -> None:
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OUTLAST_")},
        "OUTLAST_KAFKA__BOOTSTRAP_SERVERS": walls.servers("SASL_SSL"),
        "OUTLAST_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "OUTLAST_KAFKA__SASL_MECHANISM": "PLAIN",
        "OUTLAST_KAFKA__SASL_USERNAME": "alice",
        "OUTLAST_KAFKA__SASL_PASSWORD_ENV": "THE_PASSWORD",
        "OUTLAST_KAFKA__SSL_CAFILE": walls.file("ca.pem"),
        "THE_PASSWORD": "wrong-canary",
    }

    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "outlast.cli", "topics", "plan"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env=environ,
    )

    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr == (
        f"Kafka at {walls.servers('SASL_SSL')} cannot be used: it refused the user alice by PLAIN: "
        "kafka.sasl_username, sasl_mechanism or the password is wrong\n"
    )


async def test_a_wrong_name_passes_when_it_is_not_checked(walls: Fortress) -> None:
    settings = {**walls.settings(SCRAM), "ssl_check_hostname": False}

    cluster = await connect(
        Kafka(bootstrap_servers=walls.servers("SASL_SSL", "localhost"), **settings)
    )

    assert cluster.brokers == 1


async def test_a_key_with_a_password_is_opened_with_it(walls: Fortress) -> None:
    locked = dict.fromkeys(("ssl_certfile", "ssl_keyfile"), walls.file("locked.pem"))
    settings = {**walls.settings("SSL"), **locked, "ssl_key_password": KEY_PASSWORD}

    cluster = await connect(Kafka(bootstrap_servers=walls.servers("SSL"), **settings))

    assert cluster.brokers == 1


async def test_the_second_server_is_asked_where_the_first_is_dead(walls: Fortress) -> None:
    servers = f"127.0.0.1:1,{walls.servers('SASL_SSL')}"
    settings = {**walls.settings(SCRAM), "sasl_password": "no"}

    with pytest.raises(KafkaUnreachable, match="it refused the user alice"):
        await connect(Kafka(bootstrap_servers=servers, **settings))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"ssl_cafile": "{token}"}, "token holds no certificate in PEM form"),
        ({"ssl_cafile": "/nowhere"}, "/nowhere cannot be read: No such file or directory"),
        ({"ssl_certfile": "{client.pem}", "ssl_keyfile": "{foreign.pem}"}, "key values mismatch"),
        ({"ssl_certfile": "{token}", "ssl_keyfile": "{token}"}, "cannot be used"),
        ({"ssl_certfile": "{locked.pem}", "ssl_keyfile": "{locked.pem}"}, "cannot be used"),
        ({"ssl_certfile": "/nowhere", "ssl_keyfile": "/nowhere"}, "/nowhere cannot be read"),
        (
            {
                "ssl_certfile": "{locked.pem}",
                "ssl_keyfile": "{locked.pem}",
                "ssl_key_password": "x" * 1_025,
            },
            "kafka.ssl_key_password: OpenSSL takes no password above 1,024 bytes",
        ),
    ],
)
async def test_a_certificate_that_cannot_be_used_is_a_mistake_in_the_settings(
    walls: Fortress, changed: dict[str, str], says: str
) -> None:
    files = {key: walls.file(v[1:-1]) for key, v in changed.items() if v[0] == "{"}

    with pytest.raises(SettingsError) as caught:
        await connect(Kafka(security_protocol="SSL", **{**changed, **files}))  # type: ignore[arg-type]

    assert says in str(caught.value)
    assert str(caught.value).startswith("kafka.ssl_")


# --- what it costs, and what it tells -------------------------------------------------------


def test_connections_of_one_kind_share_a_context(walls: Fortress) -> None:
    settings = walls.settings(SCRAM)
    first, second = Kafka(**settings), Kafka(**settings, prefix="another")

    assert tls(first) is tls(second) is not None
    assert tls(Kafka(**{**settings, "ssl_check_hostname": False})) is not tls(first)
    assert tls(Kafka()) is None


async def test_no_log_line_holds_a_secret_however_much_is_logged(
    walls: Fortress, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for way in ("SASL_SSL PLAIN", "SASL_SSL OAUTHBEARER"):
        settings = walls.settings(way)

        await connect(Kafka(bootstrap_servers=walls.servers("SASL_SSL"), **settings))

    assert "ApiVersionRequest" in caplog.text  # so much is logged
    assert PASSWORD not in caplog.text
    assert walls.token not in caplog.text
