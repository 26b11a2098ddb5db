import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
from jax.tree import leaves

PEER = pathlib.Path(__file__).with_name("peer.py")
PROCESSES = 2
TIMEOUT = 240  # seconds


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def start_peer(address: str, process: int, folder: pathlib.Path) -> subprocess.Popen:
    """One peer; its output goes to FOLDER/PROCESS.txt."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    environment["PYTHONPATH"] = str(PEER.parents[1])
    command = [sys.executable, PEER, address, str(PROCESSES), str(process), folder]
    with (folder / f"{process}.txt").open("w") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


@pytest.mark.slow
def test_two_processes_compute_the_step_of_one(training, tmp_path):
    start = training.initial_with("sgd")
    np.savez(tmp_path / "start.npz", *leaves(start))
    address = free_address()
    peers = [start_peer(address, process, tmp_path) for process in range(PROCESSES)]
    try:
        single, _ = training.train(8, "sgd", 1)
        codes = [peer.wait(TIMEOUT) for peer in peers]
    finally:
        for peer in peers:
            peer.kill()
    output = "\n".join(path.read_text() for path in sorted(tmp_path.glob("*.txt")))
    assert codes == [0] * PROCESSES, output
    first, second = (np.load(tmp_path / f"{p}.npz").values() for p in range(PROCESSES))
    for ours, theirs, expected in zip(first, second, leaves(single), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    pairs = zip(leaves(start), leaves(single), strict=True)
    assert sum(np.abs(a - b).max() > 1e-3 for a, b in pairs) > 10  # most arrays changed
