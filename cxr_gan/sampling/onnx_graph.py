"""The generator as an ONNX graph, which mirrors `models.generator` node by node.

Images within the graph are [n, c, h, w], as ONNX's convolutions require. Arithmetic is
float32 for any dtype of the stored weights: over a whole image, the sums of a norm
overflow float16.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from flax import traverse_util
from numpy.typing import DTypeLike
from onnx import TensorProto, helper, numpy_helper

from cxr_gan.models.layers import emphasis_matrix, noise_patterns
from cxr_gan.models.registry import channels_per_stage, num_sizes
from cxr_gan.sampling.sampler import GeneratorParams

OPSET, IR_VERSION = 17, 9
Arrange = Callable[[np.ndarray], np.ndarray]


def build(
    params: GeneratorParams, dtype: DTypeLike, metadata: Mapping[str, str]
) -> bytes:
    """The bytes of an ONNX file with inputs z and label, and output images.

    z is float32 [n, latent], label int64 [n] from 0 to K-1, images float32 [n, s, s, 1]
    in [0, 1]; n may change from call to call. ONNX Runtime on CPUs raises an error for
    a label out of range.

    Args:
        params: the generator.
        dtype: of the stored weights, float32 or float16.
        metadata: stored in the file, as text.

    Raises:
        ValueError: the generator's architecture has no graph.
    """
    config = params.config
    if config.name != "resnet":
        raise ValueError(
            f"generator.name={config.name!r} has no ONNX graph; only 'resnet' has one"
        )
    graph = _Graph(params.params, dtype)
    images = _generator(graph, config)
    size = config.resolution
    inputs = [
        helper.make_tensor_value_info(
            "z", TensorProto.FLOAT, ["n", config.latent_size]
        ),
        helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
    ]
    output = helper.make_tensor_value_info(
        images, TensorProto.FLOAT, ["n", size, size, 1]
    )
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "generator", inputs, [output], graph.initializers
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="cxr_gan",
    )
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


class _Graph:
    """Nodes and initializers; tensors are known by their names."""

    def __init__(self, weights: Any, dtype: DTypeLike):
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._weights = traverse_util.flatten_dict(weights, sep="/")
        self._dtype, self._number = np.dtype(dtype), itertools.count()

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; returns the name of its output, or a list of several."""
        names = [f"{op}_{next(self._number)}" for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, dtype: DTypeLike = np.float32) -> str:
        """Adds an array that is not a weight."""
        name = f"constant_{next(self._number)}"
        array = np.asarray(value, dtype)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, path: str, arrange: Arrange = np.asarray) -> str:
        """Adds a weight, stored as the dtype of the file; float32 in the graph."""
        array = np.ascontiguousarray(arrange(np.asarray(self._weights[path])))
        tensor = numpy_helper.from_array(array.astype(self._dtype), path)
        self.initializers.append(tensor)
        if self._dtype == np.float32:
            return path
        cast: str = self.add("Cast", path, to=TensorProto.FLOAT)
        return cast

    def dense(self, x: str, path: str, arrange: Arrange = np.asarray) -> str:
        """x [n, d] -> [n, features]; `arrange` permutes the features."""
        kernel = self.weight(f"{path}/kernel", arrange)
        dense: str = self.add("Gemm", x, kernel, self.weight(f"{path}/bias", arrange))
        return dense

    def conv3x3(self, x: str, path: str) -> str:
        """`Conv3x3`."""
        kernel = self.weight(f"{path}/conv/kernel", lambda w: w.transpose(3, 2, 0, 1))
        bias = self.weight(f"{path}/conv/bias")
        conv: str = self.add("Conv", x, kernel, bias, pads=[1, 1, 1, 1])
        return conv

    def conv1x1(self, x: str, path: str) -> str:
        """`Conv1x1`."""
        kernel = self.weight(f"{path}/kernel", lambda w: w.T[:, :, None, None])
        conv: str = self.add("Conv", x, kernel)
        return conv


def _generator(graph: _Graph, config: Any) -> str:
    """`models.generator.Generator`, with its output in [0, 1]."""
    channels = channels_per_stage(
        config.resolution, config.features_at_32, config.max_features
    )
    num_heads = num_sizes(config.resolution, config.base_resolution)
    condition = graph.add("Concat", "z", _embedding(graph, config), axis=1)
    x = graph.dense(condition, "stem", lambda w: _channels_first(w, channels[0]))
    x = graph.add("Reshape", x, graph.constant([-1, channels[0], 4, 4], np.int64))
    image = ""
    for stage in range(len(channels)):
        side = 4 * 2**stage
        if stage:
            x = _up_block(graph, x, condition, f"block_{side}")
        if stage < len(channels) - num_heads:
            continue
        added = _head(graph, x, condition, _noise(graph, config, 2 * side), 2 * side)
        image = graph.add("Add", _upsample(graph, image), added) if image else added
    unit = graph.add("Mul", graph.add("Tanh", image), graph.constant(0.5))
    unit = graph.add("Add", unit, graph.constant(0.5))
    # One channel: [n, 1, s, s] and [n, s, s, 1] have the same order in memory.
    shape = [-1, config.resolution, config.resolution, 1]
    graph.nodes.append(
        helper.make_node("Reshape", [unit, graph.constant(shape, np.int64)], ["images"])
    )
    return "images"


def _embedding(graph: _Graph, config: Any) -> str:
    """The embedding of each label; -1 would be the last class, K is refused."""
    is_negative = graph.add("Less", "label", graph.constant(0, np.int64))
    none = graph.constant(len(config.class_names), np.int64)
    index = graph.add("Where", is_negative, none, "label")
    embedding: str = graph.add("Gather", graph.weight("Embed_0/embedding"), index)
    return embedding


def _channels_first(w: np.ndarray, channels: int) -> np.ndarray:
    """Features [..., 16 c], ordered h, w, c -> ordered c, h, w."""
    grid = w.reshape(*w.shape[:-1], 16, channels)
    return np.swapaxes(grid, -1, -2).reshape(w.shape)


def _up_block(graph: _Graph, x: str, condition: str, path: str) -> str:
    """`UpBlock`."""
    skip = graph.conv1x1(x, f"{path}/skip")
    h = _norm_and_relu(graph, x, condition, f"{path}/norm_in")
    h = _upsample(graph, graph.conv3x3(h, f"{path}/conv_in"))
    h = _norm_and_relu(graph, h, condition, f"{path}/norm_out")
    h = graph.conv3x3(h, f"{path}/conv_out")
    block: str = graph.add("Add", _upsample(graph, skip), h)
    return block


def _norm_and_relu(graph: _Graph, x: str, condition: str, path: str) -> str:
    """`AdaptiveLayerNorm`, then relu."""
    gains = graph.dense(condition, f"{path}/gains")
    axes = graph.constant([2, 3], np.int64)
    gains = graph.add("Unsqueeze", gains, axes)
    scale, bias = graph.add("Split", gains, outputs=2, axis=1)
    mean = graph.add("ReduceMean", x, axes=[1, 2, 3])
    square = graph.add("ReduceMean", graph.add("Mul", x, x), axes=[1, 2, 3])
    variance = graph.add("Sub", square, graph.add("Mul", mean, mean))
    positive = graph.add("Max", variance, graph.constant(0.0))
    deviation = graph.add("Sqrt", graph.add("Add", positive, graph.constant(1e-5)))
    scale = graph.add("Add", scale, graph.constant(1.0))
    gain = graph.add("Div", scale, deviation)
    shift = graph.add("Sub", bias, graph.add("Mul", mean, gain))
    y = graph.add("Add", graph.add("Mul", x, gain), shift)
    relu: str = graph.add("Relu", y)
    return relu


def _upsample(graph: _Graph, x: str) -> str:
    """`layers.upsample`."""
    scales = graph.constant([1, 1, 2, 2])
    resized: str = graph.add(
        "Resize",
        *(x, "", scales),
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    return resized


def _noise(graph: _Graph, config: Any, size: int) -> str:
    """`layers.noise_of_latent`, [n, 1, size, size]."""
    rows, columns = noise_patterns(config.latent_size, size)
    z = graph.add("Unsqueeze", "z", graph.constant([1], np.int64))
    by_row = graph.add("Mul", graph.constant(rows.T), z)  # [n, size, d]
    noise = graph.add("MatMul", by_row, graph.constant(columns))
    unsqueezed: str = graph.add("Unsqueeze", noise, graph.constant([1], np.int64))
    return unsqueezed


def _head(graph: _Graph, x: str, condition: str, noise: str, size: int) -> str:
    """`Head` of an image of size x size pixels."""
    path = f"head_{size}"
    x = _up_block(graph, x, condition, f"{path}/block")
    x = _norm_and_relu(graph, x, condition, f"{path}/norm")
    gain = graph.weight(f"{path}/noise_gain", lambda w: w[:, None, None])
    factor = graph.add("Add", graph.add("Mul", gain, noise), graph.constant(1.0))
    x = graph.add("Mul", x, factor)
    # The inverse of a symmetric matrix is symmetric.
    inverse = graph.constant(np.linalg.inv(emphasis_matrix(size)))
    image = graph.add("MatMul", inverse, graph.conv3x3(x, f"{path}/image"))
    head: str = graph.add("MatMul", image, inverse)
    return head
