#!/usr/bin/env bash
# TensorBoard's EventFileWriter.close() returns normally although the disk is full and an
# event was lost. Its thread fails and prints a traceback (OSError: File too large, here
# hidden), and close() does not look at the thread's error. flush() does, and raises.
#
# tensorboard 2.21.0 without TensorFlow, Python 3.11, Linux. Output:
#   close() returned without an error
#   in the file: 2 of 3 events
#
# Usage: bash findings/tensorboard_full_disk.sh; exits non-zero if the behaviour changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "tensorboard==2.21.0" "setuptools<81" 2>"$folder/pip"

cat >"$folder/full_disk.py" <<'PYTHON'
import pathlib
import resource
import signal
import sys

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

folder = pathlib.Path(sys.argv[1])


def event(step):
    """About 3 kB."""
    value = Summary.Value(tag="x" * 3000, simple_value=step)
    return Event(step=step, summary=Summary(value=[value]))


writer = EventFileWriter(str(folder))
writer.add_event(event(1))
writer.add_event(event(2))
writer.flush()
# A limit on the size of files stands for a full disk: writes fail with an OSError.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
writer.add_event(event(3))
writer.close()
print("close() returned without an error")
(path,) = folder.iterdir()
steps = [found.step for found in EventFileLoader(str(path)).Load() if found.step]
print(f"in the file: {len(steps)} of 3 events")
sys.exit(len(steps) == 3)
PYTHON

mkdir "$folder/events"
"$folder/venv/bin/python" "$folder/full_disk.py" "$folder/events" 2>"$folder/stderr"
