"""Why Kafka is not reached: what only a server with a strange certificate can show."""

import ssl
from asyncio import start_server
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from outlast.core.errors import KafkaUnreachable
from outlast.edges.kafka.connection import connect
from outlast.edges.settings import Kafka


@pytest.mark.parametrize(
    ("years", "says"),
    [
        ((2019, 2020), "its certificate has expired"),
        ((2090, 2091), "its certificate is not valid yet: is this machine's clock right?"),
    ],
)
async def test_a_certificate_out_of_its_time_is_told(
    tmp_path: Path, years: tuple[int, int], says: str
) -> None:
    begins, ends = (datetime(year, 1, 1, tzinfo=UTC) for year in years)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", not_before=begins, not_after=ends).configure_cert(tls)

    async with await start_server(lambda *_: None, "127.0.0.1", 0, ssl=tls) as server:
        servers = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        cafile = str(tmp_path / "ca.pem")
        with pytest.raises(KafkaUnreachable) as caught:
            await connect(
                Kafka(bootstrap_servers=servers, security_protocol="SSL", ssl_cafile=cafile)
            )

    assert str(caught.value) == f"Kafka at {servers} cannot be used: {says}"
