"""Leaders whose records are in PostgreSQL."""

import asyncio

import psycopg
import pytest
from postgres_stores import opened
from sqlalchemy import Connection

from openlaunch.errors import Unavailable
from openlaunch.nodes import leases
from openlaunch.store.cluster import check_leads
from openlaunch.store.postgres_cluster import PostgresCluster


def test_a_transaction_of_a_leader_ends_before_another_one_leads(url: str) -> None:
    tried: list[type[BaseException]] = []

    def take_over_within(conn: Connection) -> None:
        check_leads(conn, 7)
        with psycopg.connect(url, options="-c lock_timeout=50ms") as other:
            with pytest.raises(psycopg.errors.LockNotAvailable) as failed:
                other.execute("UPDATE leader SET epoch = 8")
            tried.append(failed.type)

    async def test() -> None:
        async with opened(url) as store:
            await store.write(lambda conn: check_leads(conn, 0))  # a server that is alone
            with pytest.raises(Unavailable, match="another server of the cluster leads"):
                await store.write(lambda conn: check_leads(conn, 7))
            with psycopg.connect(url) as other:
                other.execute("UPDATE leader SET epoch = 7")
            await store.write(take_over_within)
            assert tried

    asyncio.run(test())


def cluster_at(url: str) -> PostgresCluster:
    return PostgresCluster(url, "one", "http://127.0.0.1:1", 60.0, leases.ANSWER_SECONDS)


def test_a_renewal_that_is_not_answered_is_given_up_before_the_lease_ends(url: str) -> None:
    async def test() -> None:
        async with opened(url):
            server = cluster_at(url)
            assert (await server.beat(lead=True)).epoch == 1
            with psycopg.connect(url) as other:
                other.execute("LOCK TABLE gateways")
                with pytest.raises(
                    Unavailable, match="does not answer"
                ):  # and not: that it waited for the lock
                    await server.beat(lead=True)
            assert (await server.beat(lead=True)).epoch == 1
            await server.close()

    asyncio.run(test())


def test_a_leader_keeps_its_epoch_though_an_answer_was_lost(url: str) -> None:
    async def test() -> None:
        async with opened(url):
            first, second = (cluster_at(url) for _ in range(2))
            assert (await first.beat(lead=False)).epoch == 0
            assert (await first.beat(lead=True)).epoch == 1
            assert (await first.beat(lead=True)).epoch == 1  # the same, if the answer before was lost
            assert (await second.beat(lead=True)).epoch == 0
            await first.hand_over()
            assert (await second.beat(lead=True)).epoch == 2
            assert (await first.beat(lead=True)).epoch == 0
            await first.close()
            await second.close()

    asyncio.run(test())
