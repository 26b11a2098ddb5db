import numpy as np
import pytest

from cxr_gan.data import phantom
from cxr_gan.metrics import features


@pytest.mark.parametrize("spec", [k for k in features.SPACES if k != "onnx"])
def test_a_space_gives_as_many_numbers_as_it_says(spec):
    images = phantom.render_many(0, range(2), 64)[0]
    space = features.space(spec)
    found = space.extract(images)
    assert space.name == spec
    assert found.shape == (2, space.dimension)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    "spec", ["", "inception", "cxr:", "cxr:net.npz", "onnx", "onnx:", "CXR", ":"]
)
def test_an_unknown_space_is_answered_by_the_known(spec):
    message = f"'{spec}' is no space of features; accepted are cxr, texture, onnx:FILE"
    with pytest.raises(ValueError, match=message):
        features.space(spec)


def test_a_missing_network_is_named_before_any_image_is_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"net.onnx: there is no such file"):
        features.space(f"onnx:{tmp_path / 'net.onnx'}")
