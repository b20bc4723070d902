"""Which addresses may be connected to."""

import socket
import time

import pytest

from openlaunch_worker.addresses import check, connector, problem


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "2002:a9fe:a9fe::",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "::169.254.169.254",
        "::ffff:0:169.254.169.254",
        "2001:0:4136:e378:8000:63bf:5601:5601",
        "fd00:ec2::23",
        "fd20:ce::254",
        "100.100.100.200",
        "::ffff:100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
    ],
)
def test_never_allowed(address):
    assert problem(address, allow_private=True) is not None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "fd12::1",
        "100.64.0.1",
        "64:ff9b::a01:203",
        "::10.1.2.3",
        "::ffff:0:10.1.2.3",
        "0.1.2.3",
        "2002:7f00:1::",
    ],
)
def test_private_addresses_are_allowed_by_setting(address):
    assert problem(address, allow_private=True) is None
    assert "private" in problem(address, allow_private=False)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_allowed(address):
    assert problem(address, allow_private=False) is None


def test_one_address_of_a_name_that_is_not_allowed_spoils_all():
    addresses = [(2, 1, 6, "", ("8.8.8.8", 80)), (2, 1, 6, "", ("169.254.169.254", 80))]
    with pytest.raises(PermissionError, match=r"169\.254\.169\.254"):
        check(addresses, allow_private=True)


def test_all_addresses_of_a_name_have_one_timeout_together(monkeypatch):
    now, tried = [0.0], []

    def silent(where, timeout, source):
        tried.append(timeout)
        now[0] += 4
        raise TimeoutError("timed out")

    found = [(0, 0, 0, "", (f"203.0.113.{n}", 80)) for n in range(100)]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", silent)
    with pytest.raises(TimeoutError):
        connector(allow_private=True)(("silent.example", 80), 10)
    assert tried == [10, 6, 2]
