"""TLS to Redis, Sentinel and Cluster: real servers, with a certificate for localhost.

``127.0.0.1`` leads to the same servers, and the certificate does not name it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from realtime_ticket import StorageError
from realtime_ticket.backends.redis import RedisBackend
from realtime_ticket.backends.redis_cluster import RedisClusterBackend
from realtime_ticket.backends.redis_sentinel import RedisSentinelBackend
from tests import servers
from tests.helpers import CLAIMS, using

HOST = "localhost"
"""The name in the certificate."""

OTHER = "127.0.0.1"

PATIENCE: dict[str, Any] = {"socket_timeout": 10, "socket_connect_timeout": 10}
"""A handshake takes its time on a machine that is busy."""


class Encrypted:
    """Three servers that speak TLS alone, and who has signed their certificate."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca)
        self._pem = folder / "server.pem"
        certificate = authority.issue_cert(HOST)
        certificate.private_key_and_cert_chain_pem.write_to_path(self._pem)
        self.redis = self._start(folder / "redis")
        self.node = self._start(
            folder / "node", "--cluster-enabled", "yes", "--tls-cluster", "yes",
            "--cluster-port", str(servers.free_port()),
            "--cluster-announce-hostname", HOST,
            "--cluster-preferred-endpoint-type", "hostname",
        )  # fmt: skip
        self.ask(self.node, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        servers.until(
            lambda: "cluster_state:ok" in self.ask(self.node, "CLUSTER", "INFO")
        )
        self.sentinel = self._start(folder / "sentinel", masters=True)

    def _start(self, folder: Path, *options: str, masters: bool = False) -> int:
        """Start a server, or a Sentinel that knows masters, and return its port."""
        folder.mkdir()
        port = servers.free_port()
        words = ["--port", "0", "--tls-port", str(port), "--bind", OTHER,
                 "--tls-cert-file", str(self._pem), "--tls-key-file", str(self._pem),
                 "--tls-ca-cert-file", str(self.ca), "--tls-auth-clients", "no",
                 "--tls-replication", "yes", "--dir", str(folder)]  # fmt: skip
        if masters:
            file = folder / "sentinel.conf"
            lines = [" ".join(words[at : at + 2])[2:] for at in range(0, len(words), 2)]
            lines += ["sentinel resolve-hostnames yes",
                      "sentinel announce-hostnames yes",
                      f"sentinel monitor named {HOST} {self.redis} 1",
                      f"sentinel monitor numbered {OTHER} {self.redis} 1"]  # fmt: skip
            file.write_text("\n".join(lines))
            words = [str(file), "--sentinel"]
        else:
            words += ["--save", "", *options]
        servers.run(
            [servers.find("redis-server"), *words],
            folder,
            ready=lambda: self.ask(port, "PING") in ("PONG", True),
        )
        return port

    def ask(self, port: int, *words: object) -> Any:
        options = {"ssl": True, "ssl_ca_certs": str(self.ca), "decode_responses": True}
        try:
            with redis.Redis(host=HOST, port=port, protocol=2, **options) as client:
                return client.execute_command(*words)
        except redis.ConnectionError:
            return ""


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    servers.need("redis")
    yield Encrypted(tmp_path_factory.mktemp("tls"))


Make = Callable[..., RedisBackend]


def by_options(on: Encrypted, host: str, **options: Any) -> RedisBackend:
    return RedisBackend(host=host, port=on.redis, ssl=True, **PATIENCE, **options)


def by_url(on: Encrypted, host: str, **options: Any) -> RedisBackend:
    return RedisBackend(url=f"rediss://{host}:{on.redis}/0", **PATIENCE, **options)


def by_sentinel(on: Encrypted, host: str, **options: Any) -> RedisBackend:
    """Trust the Sentinel, which names the master in one way or the other."""
    return RedisSentinelBackend(
        sentinels=[(HOST, on.sentinel)],
        service_name="named" if host == HOST else "numbered",
        sentinel_kwargs={"ssl": True, "ssl_ca_certs": str(on.ca)},
        ssl=True,
        **PATIENCE,
        **options,
    )


def by_another_sentinel(on: Encrypted, host: str, **options: Any) -> RedisBackend:
    return RedisSentinelBackend(
        sentinels=[(host, on.sentinel)],
        service_name="named",
        sentinel_kwargs={"ssl": True, **options},
        ssl=True,
        **PATIENCE,
        **options,
    )


def by_cluster(on: Encrypted, host: str, **options: Any) -> RedisBackend:
    nodes = [(host, on.node)]
    return RedisClusterBackend(startup_nodes=nodes, ssl=True, **PATIENCE, **options)


every_way = pytest.mark.parametrize(
    "make", [by_options, by_url, by_sentinel, by_another_sentinel, by_cluster]
)


@every_way
def test_the_host_that_the_certificate_names(make: Make, encrypted: Encrypted) -> None:
    """Tickets are issued and consumed."""
    with using(make(encrypted, HOST, ssl_ca_certs=str(encrypted.ca))) as service:
        assert service.consume(service.issue(CLAIMS).value).username == "ada"


@every_way
def test_another_host_is_refused(make: Make, encrypted: Encrypted) -> None:
    """A server with a certificate for one host cannot pass for another.

    Mutants: redis-certificate-of-any-host, redis-url-certificate-of-any-host.
    """
    with using(make(encrypted, OTHER, ssl_ca_certs=str(encrypted.ca))) as service:
        with pytest.raises(StorageError) as caught:
            service.issue(CLAIMS)
        assert "shows a certificate for another host" in str(caught.value)


@every_way
def test_a_certificate_that_nobody_has_signed(make: Make, encrypted: Encrypted) -> None:
    """Without the authority's certificate, the right host is refused too."""
    with (
        using(make(encrypted, HOST)) as service,
        pytest.raises(StorageError, match="certificate that is not trusted"),
    ):
        service.issue(CLAIMS)


@every_way
@pytest.mark.parametrize(
    "options",
    [{"ssl_cert_reqs": "none"}, {"ssl_cert_reqs": None},
     {"ssl_cert_reqs": ssl.CERT_NONE}],
    ids=["none", "None", "CERT_NONE"],
)  # fmt: skip
def test_who_asks_for_no_check_gets_none(
    make: Make, options: dict[str, Any], encrypted: Encrypted
) -> None:
    """One option is enough, with every redis-py: before 6 it took two."""
    with using(make(encrypted, OTHER, **options)) as service:
        assert service.consume(service.issue(CLAIMS).value).username == "ada"


@every_way
def test_who_does_not_compare_the_host(make: Make, encrypted: Encrypted) -> None:
    """An authority of one's own can be trusted for all hosts."""
    options = {"ssl_ca_certs": str(encrypted.ca), "ssl_check_hostname": False}
    with using(make(encrypted, OTHER, **options)) as service:
        assert service.consume(service.issue(CLAIMS).value).username == "ada"
