"""The same inputs give the same bytes, whatever order Python's hashing happens to choose."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

ARGUMENTS = ["configs/us_core_long_eq_ohlcv.yaml", "--start", "2003-01-02", "--end", "2003-12-31"]


def _prometheus(home, hash_seed, *arguments):
    environment = {**os.environ, "PROMETHEUS_HOME": str(home), "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "prometheus_nt.cli", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout)


def test_two_fresh_processes_with_different_hash_seeds_send_the_same_orders(tmp_path):
    hashes = []
    for seed in ("0", "4242"):
        home = tmp_path / seed
        _prometheus(home, seed, "data", "ingest", "sample")
        (run,) = _prometheus(home, seed, "backtest", *ARGUMENTS)
        hashes.append((run["run_id"], run["order_list_hash"], run["metrics"]))

    assert hashes[0] == hashes[1]
