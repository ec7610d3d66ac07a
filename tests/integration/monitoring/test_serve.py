"""`prometheus serve` as a process: it runs jobs itself unless told not to, and ends cleanly."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from time import monotonic, sleep

import httpx
import pytest

pytestmark = pytest.mark.integration

PATIENCE = 60.0


@contextmanager
def serving(home, *options):
    command = (sys.executable, "-m", "prometheus_nt.cli", "serve", "--port", "0", *options)
    environment = os.environ | {"PROMETHEUS_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    try:
        told = process.stdout.readline()
        assert "serving on http://" in told, told
        with httpx.Client(base_url=told.split()[-1], timeout=30) as client:
            _until(lambda: _answers(client))
            yield client
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        assert "Traceback" not in process.stdout.read()
    finally:
        if process.poll() is None:
            process.kill()
        process.stdout.close()
        process.wait()


def _answers(client):
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def _until(holds):
    begun = monotonic()
    while not holds():
        assert monotonic() - begun < PATIENCE
        sleep(0.1)


def test_the_server_runs_the_jobs_that_are_asked_for(tmp_path):
    with serving(tmp_path) as client:
        made = client.post("/api/jobs", json={"kind": "report", "spec": {"run": "latest"}})
        path = f"/api/jobs/{made.json()['job_id']}"

        _until(lambda: client.get(path).json()["status"] == "FAILED")

        assert client.get(path).json()["error"]["type"] == "StoreError"


def test_without_its_worker_the_server_leaves_jobs_to_others(tmp_path):
    with serving(tmp_path, "--no-worker") as client:
        made = client.post("/api/jobs", json={"kind": "report", "spec": {"run": "latest"}})
        path = f"/api/jobs/{made.json()['job_id']}"
        sleep(3)

        assert client.get(path).json()["status"] == "PENDING"
