import numpy as np
import pytest

from cxr_gan.evaluation.metrics import (
    batching,
    cxr_encoder,
    ms_ssim,
    pixel_search,
    power_spectrum,
    texture_features,
)

METRICS = {
    "cxr": cxr_encoder.features,
    "texture": texture_features.features,
    "MS-SSIM": lambda images: ms_ssim.mean_pairwise(images, 0, 3),
    "pixels": pixel_search.pixel_vectors,
    "power": power_spectrum.profiles,
}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
@pytest.mark.parametrize(
    ("shape", "dtype", "error", "message"),
    [
        ((2, 64, 64, 1), np.float32, TypeError, "images are float32; use uint8"),
        ((2, 64, 64), np.uint8, ValueError, r"\[2, 64, 64\]; must be \[n, s, s, 1\]"),
        ((2, 64, 32, 1), np.uint8, ValueError, r"must be \[n, s, s, 1\]"),
    ],
)
def test_metrics_refuse_other_images(metric, shape, dtype, error, message):
    with pytest.raises(error, match=message):
        metric(np.zeros(shape, dtype))


def test_no_images_and_too_small_images_are_refused():
    with pytest.raises(ValueError, match="there are no images"):
        batching.check_images(np.zeros((0, 64, 64, 1), np.uint8))
    for metric in (texture_features.features, pixel_search.pixel_vectors):
        with pytest.raises(ValueError, match="31 px; they need 32 or more"):
            metric(np.zeros((1, 31, 31, 1), np.uint8))


@pytest.mark.parametrize("n", [1, 4, 7])
def test_batches_have_one_size_and_padding_is_dropped(n):
    sizes = []
    images = np.arange(n, dtype=np.uint8)[:, None, None, None]

    def function(batch):
        sizes.append(len(batch))
        return batch[:, 0, 0, 0]

    values = batching.map_batches(function, images, batch_size=4)
    np.testing.assert_array_equal(values, np.arange(n))
    assert set(sizes) == {4}
