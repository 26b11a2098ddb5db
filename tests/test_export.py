"""python -m cxr_gan.export: the same images from other programs."""

import dataclasses
import json

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_generator
from absl import flags
from jax import export as jax_export

import cxr_gan
from cxr_gan import export
from cxr_gan.models.registry import GeneratorConfig
from cxr_gan.runtime import cpu
from cxr_gan.sampling import exporting, onnx_graph, pretrained, sampler
from cxr_gan.sampling.sampler import GeneratorParams
from cxr_gan.storage import checkpoint

META = {"step": 7, "people": "Nobody", "licence": "CC0"}


def grown() -> GeneratorParams:
    """A generator of 64 px with heads at 32 and 64 px, and three classes."""
    config = dataclasses.replace(
        tiny_generator.CONFIG,
        resolution=64,
        base_resolution=32,
        class_names=("A", "B", "C"),
    )
    noise = np.random.default_rng(3)
    weights = jax.tree.map(
        lambda w: noise.normal(0, 0.25, w.shape).astype(np.float32),
        pretrained.param_shapes(config),
    )
    return GeneratorParams(weights, config)


GENERATORS = {"tiny": tiny_generator.params, "grown": grown}


@pytest.fixture
def command(monkeypatch):
    """command(params, "--out=...") -> exit code; every run is `params`."""

    def command(params, *arguments):
        meta = META | {"generator": dataclasses.asdict(params.config)}
        monkeypatch.setattr(checkpoint, "load_item", lambda *_: (params.params, meta))
        values = flags.FlagValues()
        export.define_flags(values)
        values(["export", "--model=runs/tiny", *arguments])
        return export.main(["export"], values)

    return command


def latents_and_labels(params, n):
    z = np.asarray(cxr_gan.latents(params, n, rng=5))
    return z, np.arange(n, dtype=np.int64) % len(params.class_names)


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", GENERATORS)
def test_onnx_gives_the_images_of_sample_for_any_number(
    command, tmp_path, name, capsys
):
    params, out = GENERATORS[name](), tmp_path / "g.onnx"
    assert command(params, f"--out={out}") == 0
    assert "at most" in capsys.readouterr().out
    run = session(out)
    for n in (1, 2, 7):
        z, label = latents_and_labels(params, n)
        (images,) = run.run(None, {"z": z, "label": label})
        expected = cxr_gan.sample(params, label, latents=z)
        assert images.dtype == np.float32 and images.shape == expected.shape
        np.testing.assert_allclose(images, expected, atol=1e-5)


def test_onnx_refuses_labels_that_are_out_of_range(command, tmp_path):
    params = tiny_generator.params()
    assert command(params, f"--out={tmp_path / 'g.onnx'}") == 0
    z, _ = latents_and_labels(params, 1)
    for label in (-1, 2):
        with pytest.raises(Exception, match="out of data bounds"):
            session(tmp_path / "g.onnx").run(None, {"z": z, "label": [label]})


def test_onnx_of_float16_weights_is_smaller_and_computes_in_float32(command, tmp_path):
    params = tiny_generator.params()
    large, small = tmp_path / "large.onnx", tmp_path / "small.onnx"
    assert command(params, f"--out={large}") == 0
    assert command(params, f"--out={small}", "--weights=float16") == 0
    graphs = [onnx.load(file).graph for file in (large, small)]
    bytes_of = [sum(t.ByteSize() for t in graph.initializer) for graph in graphs]
    assert bytes_of[1] < 0.7 * bytes_of[0]
    rounded = params.replace(params=exporting.as_stored(params.params, "float16"))
    z, label = latents_and_labels(params, 3)
    (images,) = session(small).run(None, {"z": z, "label": label})
    expected = cxr_gan.sample(rounded, label, latents=z)
    np.testing.assert_allclose(images, expected, atol=1e-5)


def test_onnx_states_its_classes_model_and_terms(command, tmp_path):
    params = tiny_generator.params()
    assert command(params, f"--out={tmp_path / 'g.onnx'}") == 0
    found = session(tmp_path / "g.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(found["class_names"]) == ["NORMAL", "PNEUMONIA"]
    assert found["model_hash"] == found["trained_hash"] == sampler.fingerprint(params)
    assert (found["people"], found["licence"]) == ("Nobody", "CC0")
    assert "shows no patient" in found["note"]


def test_stablehlo_gives_the_images_of_sample_on_every_platform(command, tmp_path):
    params, out = tiny_generator.params(), tmp_path / "g.stablehlo"
    assert command(params, f"--out={out}", "--format=stablehlo") == 0
    exported = jax_export.deserialize(bytearray(out.read_bytes()))
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    for n in (1, 5):
        z, label = latents_and_labels(params, n)
        images = exported.call(z, label.astype(np.int32))
        expected = cxr_gan.sample(params, label, latents=z)
        np.testing.assert_allclose(images, expected, atol=1e-5)
    for label in (-1, 2):
        assert np.isnan(exported.call(z[:1], np.array([label], np.int32))).all()


def test_stablehlo_has_no_kernels_for_cpus(monkeypatch):
    params, traced_for_cpu = tiny_generator.params(), []
    build = GeneratorConfig.build

    def spy(config):
        traced_for_cpu.append(cpu.on_cpu())
        return build(config)

    monkeypatch.setattr(GeneratorConfig, "build", spy)
    exporting.export_stablehlo(params, "float32", {})
    assert traced_for_cpu == [False] and cpu.on_cpu()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out=g.npz"], "--out=g.npz: give a file name that ends in .onnx"),
        (
            ["--out=g.onnx", "--format=stablehlo"],
            "--out=g.onnx: give a file name that ends in .stablehlo",
        ),
        (
            ["--out=g.stablehlo", "--format=stablehlo", "--weights=float16"],
            "only ONNX files store other weights than float32",
        ),
        (["--out=there.onnx"], "there.onnx exists already"),
    ],
)
def test_unusable_file_or_flag_is_refused(
    command, arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.onnx").touch()
    assert command(tiny_generator.params(), *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]


def test_file_that_gives_other_images_is_not_written(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(
        onnx_graph,
        "_upsample",
        lambda graph, x: graph.add(
            "Resize", x, "", graph.constant([1, 1, 2, 2]), mode="nearest"
        ),
    )
    out = tmp_path / "g.onnx"
    assert command(tiny_generator.params(), f"--out={out}") == 1
    assert "nothing was written" in capsys.readouterr().err
    assert not out.exists()


def test_program_that_gives_nan_is_refused():
    params = tiny_generator.params()
    with pytest.raises(ValueError, match=r"by nan, more than 0\.0001"):
        exporting.compare(params, lambda z, _: np.full((len(z), 32, 32, 1), np.nan))


def test_weights_that_do_not_fit_into_float16_are_refused(command, tmp_path, capsys):
    params = tiny_generator.params()
    params.params["stem"]["bias"][0] = 1e6
    out = tmp_path / "g.onnx"
    assert command(params, f"--out={out}", "--weights=float16") == 1
    assert "too large for --weights=float16" in capsys.readouterr().err
    assert not out.exists()


def test_architecture_without_a_graph_is_refused(monkeypatch):
    params = tiny_generator.params()
    other = params.replace(config=dataclasses.replace(params.config, name="mine"))
    with pytest.raises(ValueError, match="'mine' has no ONNX graph"):
        onnx_graph.build(other, np.float32, {})
