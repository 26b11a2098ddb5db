import json
import sys

import numpy as np
import pytest

from cxr_gan.data.phantom import renderer
from cxr_gan.evaluation.metrics import feature_spaces, onnx_encoder

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CONFIG = {
    "size": 16,
    "channels": 2,
    "mean": [0.5, 0.25],
    "std": [0.5, 2.0],
    "layout": "NCHW",
}


def write_network(path, shape=("n", 2, 16, 16), *, pooled=True, outputs=("means",)):
    """Writes a network that returns the mean of each channel; its input is NCHW.

    Without `pooled`, its output is not flattened to [n, channels].
    """
    make, float32 = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [make.make_node("GlobalAveragePool", ["x"], ["pooled"])]
    nodes += [make.make_node("Flatten", ["pooled"], [name]) for name in outputs]
    names = outputs if pooled else ("pooled",)
    output_info = [make.make_tensor_value_info(name, float32, None) for name in names]
    input_info = [make.make_tensor_value_info("x", float32, shape)]
    graph = make.make_graph(nodes, "means", input_info, output_info)
    opset = [make.make_opsetid("", 17)]
    model = make.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(model, str(path))


@pytest.fixture
def file(tmp_path):
    """A network with its configuration."""
    path = tmp_path / "net.onnx"
    write_network(path)
    write_config(path, CONFIG)
    return path


def write_config(path, config):
    path.with_suffix(".json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def images():
    return renderer.render_many(0, range(20), 32)[0]


def expected_features(images):
    """Means of the images by channel, normalised by `mean` and `std` of CONFIG."""
    mean = images.astype(np.float64).mean((1, 2)) / 255
    return (mean - CONFIG["mean"]) / CONFIG["std"]


def test_images_are_resized_scaled_and_repeated_over_channels(file, images):
    space = feature_spaces.open_space(f"onnx:{file}")
    assert space.name == f"onnx:{file.name}"  # as it is in reports
    features = space.extract(images)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected_features(images), atol=1e-5)


def test_fixed_batch_size_of_a_network_is_respected(file, images):
    write_network(file, shape=(3, 2, 16, 16))
    features = onnx_encoder.extractor(file)(images)
    np.testing.assert_allclose(features, expected_features(images), atol=1e-5)


def test_layout_nhwc_puts_channels_last(file, images):
    write_network(file, shape=("n", 16, 16, 1))  # rows, which it averages as channels
    config = {**CONFIG, "channels": 1, "mean": [0], "std": [1], "layout": "NHWC"}
    write_config(file, config)
    rows = images.reshape(20, 16, 2, 32).mean((2, 3)) / 255
    np.testing.assert_allclose(onnx_encoder.extractor(file)(images), rows, atol=1e-5)


def test_config_selects_one_of_several_outputs(file, images):
    write_network(file, outputs=("first", "second"))
    with pytest.raises(ValueError, match=r"output is None in net.json; .* first"):
        onnx_encoder.extractor(file)
    write_config(file, {**CONFIG, "output": "second", "input": "x"})
    features = onnx_encoder.extractor(file)(images)
    np.testing.assert_allclose(features, expected_features(images), atol=1e-5)
    write_config(file, {**CONFIG, "output": "third"})
    with pytest.raises(ValueError, match=r"output is 'third' in net.json"):
        onnx_encoder.extractor(file)


def test_missing_config_is_refused_with_an_example(file):
    file.with_suffix(".json").unlink()
    message = r'net.json: .*configuration.*"size": 224'
    with pytest.raises(FileNotFoundError, match=message):
        onnx_encoder.extractor(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(({key: None}, f"{key}' is missing; .* size") for key in onnx_encoder.KEYS),
        ({"means": [0]}, "unknown key 'means'; keys are size"),
        ({"size": "16"}, "size is '16'; must be an integer >= 1"),
        ({"channels": 0}, "channels is 0; must be an integer >= 1"),
        ({"mean": [0.5]}, r"mean is \[0.5\]; must be a list of 2 finite numbers"),
        ({"mean": 0.5}, "mean is 0.5; must be a list of 2 finite numbers"),
        ({"std": ["a", "b"]}, "must be a list of 2 finite numbers"),
        ({"std": [1, 0]}, "must be above 0"),
        ({"layout": "CHW"}, "layout is 'CHW'; must be NCHW or NHWC"),
        ({"size": 32}, r"input 'x' is .* net.json describes .*\['n', 2, 32, 32\]"),
        ({"layout": "NHWC"}, r"net.json describes .*\['n', 16, 16, 2\]"),
        ("size: 16", r"net.json: not valid JSON"),
        ("[16]", "must be a JSON object with size"),
    ],
    ids=str,
)
def test_config_that_does_not_match_the_network_is_refused(file, change, message):
    """A value of None leaves the key out; a text replaces the file."""
    if isinstance(change, str):
        file.with_suffix(".json").write_text(change)
    else:
        changed = (CONFIG | change).items()
        write_config(file, {k: v for k, v in changed if v is not None})
    with pytest.raises(ValueError, match=message):
        onnx_encoder.extractor(file)


def test_output_that_is_not_a_matrix_is_refused(file, images):
    write_network(file, pooled=False)
    extract = onnx_encoder.extractor(file)
    with pytest.raises(
        ValueError, match=r"'pooled' has shape \[16, 2, 1, 1\] for 16 images"
    ):
        extract(images)


def test_damaged_network_file_is_refused(file):
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"net.onnx: onnxruntime cannot read it"):
        onnx_encoder.extractor(file)


def test_missing_onnxruntime_error_says_what_to_install(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # importing it fails
    with pytest.raises(ImportError, match="pip install onnxruntime"):
        onnx_encoder.extractor(file)
