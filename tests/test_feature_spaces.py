import numpy as np
import pytest

from cxr_gan.data.phantom import renderer
from cxr_gan.evaluation.metrics import feature_spaces


@pytest.mark.parametrize("spec", feature_spaces.SPACES)
def test_features_are_float32_vectors(spec):
    images = renderer.render_many(0, range(2), 64)[0]
    space = feature_spaces.open_space(spec)
    features = space.extract(images)
    assert space.name == spec
    assert features.ndim == 2 and len(features) == 2
    assert features.dtype == np.float32


@pytest.mark.parametrize(
    "spec", ["", "inception", "cxr:", "cxr:net.npz", "onnx", "onnx:", "CXR", ":"]
)
def test_unknown_space_is_refused_with_the_accepted_ones(spec):
    message = f"'{spec}' is not a feature space; accepted are cxr, texture, onnx:FILE"
    with pytest.raises(ValueError, match=message):
        feature_spaces.open_space(spec)


def test_missing_network_file_is_reported_when_the_space_is_opened(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"net.onnx: there is no such file"):
        feature_spaces.open_space(f"onnx:{tmp_path / 'net.onnx'}")
