"""Which node of a home trades a sleeve at the broker."""

import os

from adapters.ib.config import LinkParams
from prometheus_nt.jobs.ib_nodes import NODE_FILE, node_folder, node_of_sleeve, remember_node


def params(account="DU1234567", client_id=1, **changed):
    return LinkParams(account=account, client_id=client_id, **changed)


def test_a_node_is_found_by_its_sleeve_and_mode(tmp_path):
    remember_node(tmp_path, params(), ["ONE", "TWO"], 0.001)

    found = node_of_sleeve(tmp_path, "paper", "TWO")

    assert found.params == params()
    assert (found.sleeves, found.cash_tolerance) == (("ONE", "TWO"), 0.001)
    assert found.folder == tmp_path / "ib" / "DU1234567-1"
    assert node_of_sleeve(tmp_path, "live", "TWO") is None
    assert node_of_sleeve(tmp_path, "paper", "THREE") is None


def test_the_node_that_began_last_is_the_one(tmp_path):
    for client_id in (2, 1):
        remember_node(tmp_path, params(client_id=client_id), ["ONE"], 0.001)
    file = node_folder(tmp_path, params(client_id=2)) / NODE_FILE
    later = file.stat().st_mtime + 60
    os.utime(file, (later, later))

    assert node_of_sleeve(tmp_path, "paper", "ONE").params.client_id == 2


def test_a_home_without_the_broker_has_no_node(tmp_path):
    assert node_of_sleeve(tmp_path, "paper", "ONE") is None
