"""The phantom as a TensorFlow Datasets builder; it downloads nothing.

TensorFlow Datasets derives the name `cxr_phantom` from the name of this folder.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from cxr_gan.data.phantom import renderer


@dataclasses.dataclass(kw_only=True)
class PhantomConfig(tfds.core.BuilderConfig):
    """Phantoms 0 .. size - 1 of `seed`, of resolution x resolution pixels."""

    size: int = 3_000
    resolution: int = 64
    seed: int = 0


class Builder(tfds.core.GeneratorBasedBuilder):
    """Frontal chest radiographs rendered by cxr_gan, alternately NORMAL and PNEUMONIA.

    `tfds.load("cxr_phantom", data_dir=...)` gives 3,000 images of 64 x 64 pixels,
    `"cxr_phantom/128"` of 128 x 128. For another number of images pass
    `builder_kwargs={"config": PhantomConfig(name="few", size=8)}`.
    """

    VERSION = tfds.core.Version(f"{renderer.VERSION}.0.0")
    BUILDER_CONFIGS: ClassVar[list[PhantomConfig]] = [
        PhantomConfig(name="64", description="64 x 64 pixels"),
        PhantomConfig(name="128", description="128 x 128 pixels", resolution=128),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        s = self.builder_config.resolution
        return tfds.core.DatasetInfo(
            builder=self,
            description="Procedural chest radiographs with their ground truth.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(s, s, 1)),
                    "label": tfds.features.ClassLabel(names=list(renderer.CLASS_NAMES)),
                    "lungs": tfds.features.Image(shape=(s, s, 1)),
                    "opacity": tfds.features.Tensor(shape=(s, s), dtype=np.float32),
                    "side": tfds.features.ClassLabel(names=list(renderer.SIDES)),
                    "index": np.int64,
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> Any:
        del dl_manager  # nothing to download
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config
        for index in range(config.size):
            phantom = renderer.render(config.seed, index, config.resolution)
            yield (
                index,
                {
                    "image": phantom.image,
                    "label": phantom.label,
                    "lungs": phantom.lungs[..., None].astype(np.uint8) * 255,
                    "opacity": phantom.opacity,
                    "side": phantom.side,
                    "index": index,
                },
            )
