"""benchmarks.tpu: what it reads from compiled programs, and that steps compile."""

import importlib.util
import json
import types

import benchmark_command
import pytest
import tiny

from benchmarks import tpu

PROGRAM = """HloModule jit__fun, is_scheduled=true

FileNames
1 "PACKAGEtraining/train_step.py"
2 "PACKAGEmodels/layers.py"
3 "/site-packages/flax/linen/linear.py"

FunctionNames
1 "train_step"
2 "upsample.<locals>.part"
3 "Conv.__call__"

FileLocations
1 {file_name_id=1 function_name_id=1 line=73 end_line=73 column=19 end_column=19}
2 {file_name_id=2 function_name_id=2 line=26 end_line=26 column=1 end_column=2}
3 {file_name_id=3 function_name_id=3 line=9 end_line=9 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=3}
4 {file_location_id=3 parent_frame_id=1}

%fused (p.1: f32[8]) -> f32[8] {
  %p.1 = f32[8]{0:T(128)} parameter(0)
  ROOT %add.1 = f32[8]{0} add(%p.1, %p.1), backend_config={"estimated_cycles":"7"}
}

%with_r1 (p.2: f32[8]) -> f32[8] {
  %copy.3 = f32[8]{0:T(128)} copy(%p.2), backend_config={"estimated_cycles":"30"}
  ROOT %fusion.9 = f32[8]{0} fusion(%copy.3), calls=%fused, \
metadata={op_name="jit(_fun)/shard_map/cond" stack_frame_id=2}, \
backend_config={"estimated_cycles":"50"}
}

%without_r1 (p.3: f32[8]) -> f32[8] {
  ROOT %copy.4 = f32[8]{0} copy(%p.3), backend_config={"estimated_cycles":"3"}
}

ENTRY %main (p: f32[8], q: s32[]) -> f32[8] {
  %p = f32[8]{0:T(128)} parameter(0)
  %fusion.1 = (f32[8]{0:T(8,128)S(1)}, f32[8]{0}) fusion(%p), calls=%fused, \
metadata={op_name="jit(_fun)/shard_map/jvp(Generator)/block_8" stack_frame_id=3}, \
backend_config={"estimated_cycles":"1000"}
  %copy-start.1 = (f32[8]{0}, u32[]{:S(2)}) copy-start(%p)
  %all-reduce.2 = f32[8]{0} all-reduce(%p), metadata={op_name="x" stack_frame_id=1}
  %fusion.5 = f32[8]{0} fusion(%p), calls=%fused, \
metadata={op_name="y" stack_frame_id=4}, backend_config={"estimated_cycles":"20"}
  ROOT %conditional.7 = f32[8]{0} conditional(%q, %p, %p), \
branch_computations={%without_r1, %with_r1}, metadata={op_name="z" stack_frame_id=1}
}
""".replace("PACKAGE", tpu.PACKAGE)


def test_cycles_are_counted_by_function_with_r1_once_in_its_interval():
    cost = tpu.cost(tpu.parse(PROGRAM), interval=8)
    assert (cost["cycles"], cost["cycles_r1"], cost["cycles_mean"]) == (1020, 80, 1030)
    assert cost["functions"] == {
        "models/layers.py: upsample": 1006,  # 1000 + 50 / 8
        "elsewhere": 24,  # 20 + 30 / 8; a frame of Flax alone
    }
    assert (cost["all_reduces"], cost["copies"]) == (1, 1)
    first, second, *_ = cost["dearest"]
    assert (first["line"], first["layer"]) == (
        "models/layers.py:26",
        "jvp(Generator)/block_8",
    )
    assert (first["cycles"], second["cycles"], second["line"]) == (
        1000,
        20,
        "elsewhere",
    )


def results() -> dict:
    memory = {"arguments": 2.0, "temporary": 3.0, "program": 4.0, "seconds": 5}
    return {**tpu.cost(tpu.parse(PROGRAM), interval=8), **memory}


def test_comparison_has_a_row_for_each_function_of_either_program():
    before = results()
    before["functions"] = {"models/layers.py: upsample": 503, "losses.py: old": 9}
    rows = tpu.text(results(), before).splitlines()
    assert "| models/layers.py: upsample | 1,006 | 503 | 2.00 |" in rows
    assert "| losses.py: old | 0 | 9 | 0.00 |" in rows
    assert "| elsewhere | 24 | 0 |  |" in rows


def test_a_batch_that_chips_cannot_share_is_refused(monkeypatch):
    chips = types.SimpleNamespace(devices=(None,) * 8)
    monkeypatch.setattr(tpu, "describe", lambda topology: chips)
    with pytest.raises(ValueError, match="give a multiple of 32"):
        config = tiny.tiny_config(16)
        config.batch_size = 16
        tpu.compile_step(config, "v5e:2x4")


def test_another_file_and_a_missing_compiler_are_refused(tmp_path, monkeypatch, capsys):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"cycles": 3}))
    assert benchmark_command.run(tpu, f"--before={other}") == 1
    assert "is not a result of this program" in capsys.readouterr().err
    flags = dict.fromkeys(tpu.SAME, "64")
    other.write_text(json.dumps(results() | flags))
    assert benchmark_command.run(tpu, f"--before={other}") == 1
    assert "give the same flags as there" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    tpu.describe.cache_clear()
    assert benchmark_command.run(tpu) == 1
    assert "pip install -e '.[tpu]'" in capsys.readouterr().err


@pytest.mark.system
@pytest.mark.parametrize("topology", ["v5e:2x4", "v6e:2x4"])
def test_training_step_compiles_for_tpus(topology):
    config = tiny.tiny_config(16)
    config.compute_dtype = "bfloat16"
    compiled = tpu.compile_step(config, topology)
    assert compiled["chips"] == 8
    assert 0 < compiled["cycles_r1"] < compiled["cycles"]
    assert 1 <= compiled["all_reduces"] <= 4
    found = compiled["functions"]
    assert found["models/conv.py: Conv3x3.__call__"] > 0
    assert found[tpu.ELSEWHERE] < 0.2 * sum(found.values())


@pytest.mark.system
def test_unknown_topology_is_refused(capsys):
    assert benchmark_command.run(tpu, "--topology=v7x") == 1
    assert "--topology=v7x: the TPU compiler refuses it" in capsys.readouterr().err
