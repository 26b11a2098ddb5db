"""The phantom as a tensorflow-datasets builder; nothing is downloaded."""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from cxr_gan.data import phantom


@dataclasses.dataclass(kw_only=True)
class PhantomConfig(tfds.core.BuilderConfig):
    """Which phantoms: images `seed`, 0 .. size - 1, at `resolution` pixels a side."""

    size: int = 3_000
    resolution: int = 64
    seed: int = 0


class Builder(tfds.core.GeneratorBasedBuilder):
    """Frontal chest radiographs drawn by cxr_gan, NORMAL and PNEUMONIA in turn.

    `tfds.load("cxr_phantom", data_dir=...)` gives 3,000 images of 64 pixels a side, and
    `"cxr_phantom/128"` of 128. For another number of them pass
    `builder_kwargs={"config": PhantomConfig(name="few", size=8)}`.
    """

    VERSION = tfds.core.Version(f"{phantom.VERSION}.0.0")
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
                    "label": tfds.features.ClassLabel(names=list(phantom.CLASS_NAMES)),
                    "lungs": tfds.features.Image(shape=(s, s, 1)),
                    "opacity": tfds.features.Tensor(shape=(s, s), dtype=np.float32),
                    "side": tfds.features.ClassLabel(names=list(phantom.SIDES)),
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
            drawn = phantom.render(config.seed, index, config.resolution)
            yield (
                index,
                {
                    "image": drawn.image,
                    "label": drawn.label,
                    "lungs": drawn.lungs[..., None].astype(np.uint8) * 255,
                    "opacity": drawn.opacity,
                    "side": drawn.side,
                    "index": index,
                },
            )
