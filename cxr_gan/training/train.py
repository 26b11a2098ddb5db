"""Trains a GAN from Python; `cxr_gan.main` is the same as a command."""

import contextlib
import os
import pathlib
import sys

from ml_collections import ConfigDict

from cxr_gan.runtime import config_files, cpu, jax_config, multihost, output, process
from cxr_gan.runtime.workdir import open_workdir
from cxr_gan.training import experiment, loop, metric_writer


class SetupError(ValueError):
    """A run cannot start: what was given, what is wrong, what to type."""


def train(
    config: ConfigDict | str | os.PathLike[str], workdir: str | os.PathLike[str]
) -> pathlib.Path:
    """Trains until total_kimg, a time limit or a signal; the same call resumes the run.

    It can be called several times in a process, from any thread. The first call sets
    XLA's options, the number of CPU devices, the compilation cache and malloc for the
    whole process, as far as JAX was not used before. In the main thread, Ctrl-C,
    SIGTERM and SIGHUP save a checkpoint and end the call.

    Args:
        config: a configuration, as get_config() of a configuration file returns, or the
            path of such a file.
        workdir: folder of the run, or a folder in a bucket, as gs://my-bucket/runs/a.

    Returns:
        The local folder of the run, which `cxr_gan.load` accepts.

    Raises:
        SetupError: before anything is compiled: what was given, what is wrong, what to
            type.
        InUseError, NonFiniteError, CheckpointError, DiskError, PeerError: later, as
            `loop.train`.
        RuntimeError: the process is a fork of one that used JAX; start it by "spawn".
        BucketError: the bucket cannot be written.
    """
    with (
        contextlib.redirect_stderr(output.Tolerant(sys.stderr)),
        contextlib.ExitStack() as stack,
    ):
        try:
            stack.enter_context(jax_config.pinned())
            if not isinstance(config, ConfigDict):
                path, words = config_files.locate(os.fspath(config))
                config = config_files.read(path, *words)
            cpu.set_xla_cpu_flags()
            process.enable_compilation_cache()
            process.tune_malloc()
            folder = stack.enter_context(open_workdir(os.fspath(workdir)))
            run = experiment.open_run(config, folder)
        except (ValueError, OSError, ImportError) as error:
            raise SetupError(str(error)) from error
        message = loop.train(run)
        stack.close()  # a bucket holds all of the run before it is called saved
        if multihost.is_primary():
            metric_writer.ProgressLine().write(message)
    return folder
