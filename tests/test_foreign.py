import builtins
import json

import numpy as np
import pytest

from cxr_gan.data import phantom
from cxr_gan.metrics import features, foreign

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CARD = {
    "size": 16,
    "channels": 2,
    "mean": [0.5, 0.25],
    "std": [0.5, 2.0],
    "layout": "NCHW",
}


def network(path, shape=("n", 2, 16, 16), *, pooled=True, outputs=("means",)):
    """Writes a network that takes the mean of each channel, NCHW."""
    make, float32 = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [make.make_node("GlobalAveragePool", ["x"], ["pooled"])]
    nodes += [make.make_node("Flatten", ["pooled"], [name]) for name in outputs]
    told = [make.make_tensor_value_info(name, float32, None) for name in outputs]
    if not pooled:
        told = [make.make_tensor_value_info("pooled", float32, None)]
    given = [make.make_tensor_value_info("x", float32, shape)]
    graph = make.make_graph(nodes, "means", given, told)
    opset = [make.make_opsetid("", 17)]
    model = make.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(model, str(path))


@pytest.fixture
def file(tmp_path):
    """A network with its card."""
    path = tmp_path / "net.onnx"
    network(path)
    write(path, CARD)
    return path


def write(path, card):
    path.with_suffix(".json").write_text(json.dumps(card))


@pytest.fixture(scope="module")
def images():
    return phantom.render_many(0, range(20), 32)[0]


def wanted(images):
    """What the network makes of images: their means, in the units of the card."""
    mean = images.astype(np.float64).mean((1, 2)) / 255
    return (mean - CARD["mean"]) / CARD["std"]


def test_images_are_resized_scaled_and_repeated_over_channels(file, images):
    space = features.space(f"onnx:{file}")
    found = space.extract(images)
    assert space.dimension is None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted(images), atol=1e-5)


def test_a_network_of_fixed_batch_size_is_fed_that(file, images):
    network(file, shape=(3, 2, 16, 16))
    found = foreign.extractor(file)(images)
    np.testing.assert_allclose(found, wanted(images), atol=1e-5)


def test_channels_may_come_last(file, images):
    network(file, shape=("n", 16, 16, 1))  # which it takes for 16 channels: rows
    card = {**CARD, "channels": 1, "mean": [0], "std": [1], "layout": "NHWC"}
    write(file, card)
    rows = images.reshape(20, 16, 2, 32).mean((2, 3)) / 255
    np.testing.assert_allclose(foreign.extractor(file)(images), rows, atol=1e-5)


def test_the_card_chooses_among_outputs(file, images):
    network(file, outputs=("first", "second"))
    with pytest.raises(ValueError, match=r"output is None in the card; .* first"):
        foreign.extractor(file)
    write(file, {**CARD, "output": "second", "input": "x"})
    found = foreign.extractor(file)(images)
    np.testing.assert_allclose(found, wanted(images), atol=1e-5)
    write(file, {**CARD, "output": "third"})
    with pytest.raises(ValueError, match="output is 'third' in the card"):
        foreign.extractor(file)


def test_a_missing_card_is_shown(file):
    file.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match=r'net.json: .*card.*"size": 224'):
        foreign.extractor(file)


@pytest.mark.parametrize("key", foreign.KEYS)
def test_a_missing_key_is_named(file, key):
    write(file, {k: v for k, v in CARD.items() if k != key})
    with pytest.raises(ValueError, match=f"net.json: '{key}' is missing; needs size"):
        foreign.extractor(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"means": [0]}, "'means' is not known; keys are size"),
        ({"size": "16"}, "size is '16'; must be an int from 1"),
        ({"channels": 0}, "channels is 0; must be an int from 1"),
        ({"mean": [0.5]}, r"mean is \[0.5\]; must be a list of 2 numbers"),
        ({"mean": 0.5}, "mean is 0.5; must be a list of 2 numbers"),
        ({"std": ["a", "b"]}, "must be a list of 2 numbers"),
        ({"std": [1, 0]}, "must be above 0"),
        ({"layout": "CHW"}, "layout is 'CHW'; must be NCHW or NHWC"),
        ({"size": 32}, r"input 'x' is .* card makes it .*\['n', 2, 32, 32\]"),
        ({"layout": "NHWC"}, r"card makes it .*\['n', 16, 16, 2\]"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(file, change, message):
    write(file, {**CARD, **change})
    with pytest.raises(ValueError, match=message):
        foreign.extractor(file)


def test_a_card_that_is_no_json_is_refused(file):
    file.with_suffix(".json").write_text("size: 16")
    with pytest.raises(ValueError, match=r"net.json: no JSON"):
        foreign.extractor(file)
    file.with_suffix(".json").write_text("[16]")
    with pytest.raises(ValueError, match="must be an object with size"):
        foreign.extractor(file)


def test_an_output_that_was_not_pooled_to_numbers_is_refused(file, images):
    network(file, pooled=False)
    extract = foreign.extractor(file)
    with pytest.raises(ValueError, match=r"'pooled' is \[16, 2, 1, 1\] for 16 images"):
        extract(images)


def test_a_damaged_network_is_refused(file):
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"net.onnx: onnxruntime cannot read it"):
        foreign.extractor(file)


def test_without_the_extra_it_says_what_to_type(file, monkeypatch):
    really = builtins.__import__

    def fails(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError(name)
        return really(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fails)
    with pytest.raises(ImportError, match=r"pip install 'cxr-gan\[onnx\]'"):
        foreign.extractor(file)
