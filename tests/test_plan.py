"""The step compiled for a TPU that is not here, and what is read from its text."""

import dataclasses
import json
import runpy
from pathlib import Path

import pytest
from jax.experimental import topologies

from slm import hardware, sharding
from slm.model.presets import PRESETS
from slm.planning import compile, costs, hlo, plan
from slm.planning.plan import PlanConfig
from slm.sharding import MeshConfig

RECIPES = {name: config.recipe for name, config in runpy.run_path(
    str(Path(__file__).parents[1] / "configs" / "plan.py"))["VARIANTS"].items()}
KEYS = {"topology", "mesh", "batch_size", "grad_accum_steps", "method", "fits", "arguments_gib", "temporaries_gib",
        "flops_per_device", "collective_gb_per_device", "predicted_step_seconds", "mfu_bound", "hours_for_run"}


def small(**changes):
    """A model of several layers with heads as the paper's, small enough to compile in seconds."""
    model = dataclasses.replace(PRESETS["ncvc_slm_1"], vocabulary_size=4096, layers=3, width=256, query_heads=4,
                                kv_heads=2, mlp_width=1024, context=256, **changes)
    recipe = RECIPES["ncvc_slm_1"]
    return dataclasses.replace(
        recipe, model=model, tokenizer=dataclasses.replace(recipe.tokenizer, size=4096),
        rows=dataclasses.replace(recipe.rows, batch_size=32, seq_len=256),
        step=dataclasses.replace(recipe.step, grad_accum_steps=2), mesh=MeshConfig(fsdp=4))


def gathered(module, dtype):
    return [one for one in module.collectives() if one.kind == "all-gather" and dtype in one.dtypes]


@pytest.fixture(scope="module", params=[MeshConfig(fsdp=4), MeshConfig(fsdp=2, tensor=2)], ids=["fsdp", "tensor"])
def compiled(request):
    recipe = dataclasses.replace(small(attention="splash"), mesh=request.param)
    module = hlo.Module(compile.lower(recipe, hardware.topology("v5e-4")).compile().as_text())
    return module, recipe.model, request.param.tensor


def scores(module, model):
    """Arrays with a dimension of the vocabulary that are made whole on a device, and are no table of it."""
    return [one for one in module.collectives() if one.kind != "reduce-scatter" and model.vocabulary_size in one.largest
            and sorted(one.largest) != [model.width, model.vocabulary_size]]


def test_a_tpu_gathers_weights_in_bfloat16_and_never_the_scores(compiled):
    module, model, _ = compiled
    assert gathered(module, "bf16") and not gathered(module, "f32")
    assert not scores(module, model)


def test_the_check_sees_scores_that_are_gathered():
    text = TEXT.replace("bf16[32,32]{1,0} all-gather", "f32[4,64,4096]{2,1,0} all-gather")
    assert [one.largest for one in scores(hlo.Module(text), small().model)] == [(4, 64, 4096)]


@pytest.mark.slow
def test_the_check_sees_weights_that_travel_in_float32():
    module = hlo.Module(compile.lower(small(attention="splash", compute_dtype="float32", remat="none"),
                                   hardware.topology("v5e-4")).compile().as_text())
    assert gathered(module, "f32")


def test_flops_of_the_compiled_step_equal_the_count(compiled):
    module, model, tensor = compiled
    tokens = 32 * 256 / 4 * tensor
    assert module.flops() == pytest.approx(costs.matmul_flops(model, tokens) / tensor, rel=0.005)
    assert module.cycles() > 0


def test_a_plan_holds_what_it_promises_and_is_printed(tmp_path, capsys):
    config = PlanConfig(recipe=small(), topology="v5e-4", batch="32", grad_accum_steps="2", price=2.0)
    found = plan.run(config, tmp_path)
    said = capsys.readouterr().out
    assert set(found) >= KEYS
    assert found["method"] == "hlo" and found["fits"] is True and found["mesh"] == [1, 4, 1]
    assert found["flops_per_device"] == pytest.approx(found["analytic_flops_per_device"], rel=0.005)
    assert found["predicted_step_seconds"] == pytest.approx(
        found["compute_seconds"] + found["attention_seconds"] + found["collective_seconds"])
    assert 0 < found["mfu_bound"] < 1
    assert found["cost"] == pytest.approx(found["hours_for_run"] * 4 * 2)
    assert found["tokens"] == 24_000 * 32 * 256
    assert "PREDICTION (hlo)" in said and "GiB of 15.75: fits" in said
    json.dumps(found)


def test_lists_come_back_as_one_table(tmp_path, capsys):
    config = PlanConfig(recipe=RECIPES["ncvc_slm_1"], topology="a100-8/a100-16", batch="512/1024", grad_accum_steps="4")
    found = plan.run(config, tmp_path)
    assert [(one["topology"], one["batch_size"]) for one in found["plans"]] == [
        ("a100-8", 512), ("a100-8", 1024), ("a100-16", 512), ("a100-16", 1024)]
    assert {one["method"] for one in found["plans"]} == {"analytic"}
    assert len({one["tokens"] for one in found["plans"]}) == 1  # fewer rows, more steps
    table = (tmp_path / "table.md").read_text()
    assert table.count("\n") == 6 and table.strip() in capsys.readouterr().out


@pytest.mark.parametrize("batch, remat, change", [("1024", "none", "remat=full"), ("4096", "full", "grad_accum_steps=4")])
def test_what_does_not_fit_gets_the_change_that_would(tmp_path, capsys, batch, remat, change):
    config = PlanConfig(recipe=RECIPES["ncvc_slm_1"], topology="a100-8", batch=batch, grad_accum_steps="1", remat=remat)
    assert plan.run(config, tmp_path)["fits"] is False
    said = capsys.readouterr().out
    assert "DOES NOT FIT" in said and f"It would fit with {change}: " in said


@pytest.mark.slow
def test_what_the_tpu_compiler_refuses_gets_the_change_that_would_fit(tmp_path, capsys):
    recipe = small(remat="none")
    recipe = dataclasses.replace(recipe, rows=dataclasses.replace(recipe.rows, batch_size=8192), mesh=MeshConfig())
    found = plan.run(PlanConfig(recipe=recipe, topology="v5e-1", grad_accum_steps="1"), tmp_path)
    assert found["fits"] is False and found["memory_from"] == "compiled" and found["temporaries_gib"] > 15.75
    assert "It would fit with remat=full" in capsys.readouterr().out


def test_the_count_comes_near_the_compiler_for_the_pods_it_was_set_on():
    """The compiler's cycles are those in docs/LOG.md."""
    model = PRESETS["ncvc_slm_1"]
    tokens = 256 * 2048 / 16
    for chip, cycles_seconds in (("v4", 1.548), ("v5e", 2.066)):
        counted = costs.seconds(model, hardware.CHIPS[chip], costs.matmul_flops(model, tokens), tokens, 1, 7.4e7)
        assert counted == pytest.approx(cycles_seconds, rel=0.05)


@pytest.mark.parametrize("name, message", [
    ("v4", "expected CHIP-NUMBER with a chip of v4, v5e"), ("v9-8", "expected CHIP-NUMBER"),
    ("v4-10", "v4 comes as v4-8, v4-16, v4-32"), ("h100-12", "GPU nodes have 8")])
def test_topologies_that_are_not_sold_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        hardware.topology(name)


@pytest.mark.parametrize("name, devices, wired", [
    ("v4-8", 4, "v4:2x2x1"), ("v4-32", 16, "v4:2x2x4"), ("v5p-16", 8, "v5:2x2x2"), ("v5e-256", 256, "v5e:16x16"),
    ("v6e-8", 8, "v6e:2x4")])
def test_topologies_by_their_names_on_the_market(name, devices, wired):
    topology = hardware.topology(name)
    assert topology.devices == devices and topology.description()["topology_name"] == wired


@pytest.mark.parametrize("setting, message", [
    ({"batch": "many"}, "batch='many': expected numbers"), ({"grad_accum_steps": "0"}, "grad_accum_steps='0': expected numbers"), ({"mesh": "4"}, "mesh='4': expected DATAxFSDPxTENSOR"),
    ({"remat": "some"}, "remat='some': choose none, dots or full"),
    ({"batch": "1024/100"}, "batch_size=100 cannot be shared"), ({"topology": "a100-8/a100-3"}, "rows.batch_size=1024 cannot be"),
    ({"topology": "a100-8", "recipe": small(attention="splash")}, "attention=splash does not run on a100-8")])
def test_lists_that_cannot_be_read_are_refused(tmp_path, setting, message):
    with pytest.raises(ValueError, match=message):
        plan.run(PlanConfig(**{"recipe": RECIPES["ncvc_slm_1"], **setting}), tmp_path)


@pytest.mark.parametrize("name, speed", [("v4-8", 100), ("v4-32", 150), ("v4-128", 300), ("v5e-256", 200), ("h100-8", 450),
                                         ("h100-16", 50)])
def test_the_links_are_those_of_the_device_that_has_the_fewest(name, speed):
    assert hardware.topology(name).gb_per_second == speed


@pytest.mark.parametrize("name", ["v4-8", "v4-32", "v4-128", "v5e-16", "v5e-256", "v5p-16", "v6e-16"])
@pytest.mark.parametrize("tensor", [1, 2])
def test_the_hosts_of_every_pod_share_a_batch(name, tensor):
    """Their devices are not neighbours in the mesh."""
    topology = hardware.topology(name)
    with compile._compiler_for(topology) as description:
        devices = topologies.get_topology_desc(**description).devices
    mesh = sharding.make_mesh((1, len(devices) // tensor, tensor), devices)
    shares = {sharding.share_of_process(mesh, 1024, device.process_index) for device in devices}
    hosts = len({device.process_index for device in devices})
    assert {number for number, _ in shares} == set(range(hosts)) and {number for _, number in shares} == {hosts}


TEXT = """HloModule jit_step, is_scheduled=true, num_partitions=4

%product (a: bf16[8,32], b: bf16[32,64]) -> bf16[8,64] {
  %a = bf16[8,32]{1,0} parameter(0)
  %b = bf16[32,64]{1,0} parameter(1)
  ROOT %convolution.1 = bf16[8,64]{1,0:T(8,128)} convolution(%a, %b), dim_labels=bf_io->bf
}

%all-reduce-scatter.1 (c: f32[64,8]) -> f32[16,8] {
  %c = f32[64,8]{1,0} parameter(0)
  %all-reduce.1 = f32[64,8]{1,0} all-reduce(%c), channel_id=5, replica_groups={{0,1,2,3}}, to_apply=%sum
  ROOT %slice.1 = f32[16,8]{1,0} dynamic-slice(%all-reduce.1)
}

%async_collective_fusion.1 (d: bf16[8,32]) -> bf16[32,32] {
  %d = bf16[8,32]{1,0} parameter(0)
  ROOT %all-gather.7 = bf16[32,32]{1,0} all-gather(%d), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}
}

%body (e: (s32[], bf16[8,32])) -> (s32[], bf16[8,32]) {
  %e = (s32[], bf16[8,32]{1,0}) parameter(0)
  %two = s32[] constant(2)
  %i = s32[] get-tuple-element(%e), index=0
  %next = s32[] add(%i, %two)
  %fusion.1 = bf16[8,64]{1,0} fusion(%x, %y), kind=kOutput, calls=%product, backend_config={"estimated_cycles":"100"}
  %fusion.2 = bf16[32,32]{1,0} fusion(%x), kind=kCustom, calls=%async_collective_fusion.1
  %fusion.3 = bf16[32,32]{1,0} fusion(%x), kind=kCustom, calls=%async_collective_fusion.1
  ROOT %made = (s32[], bf16[8,32]{1,0}) tuple(%next, %x)
}

%condition (f: (s32[], bf16[8,32])) -> pred[] {
  %f = (s32[], bf16[8,32]{1,0}) parameter(0)
  %end = s32[] constant(6)
  %j = s32[] get-tuple-element(%f), index=0
  ROOT %less = pred[] compare(%j, %end), direction=LT
}

ENTRY %main (g: bf16[8,32]) -> f32[16,8] {
  %g = bf16[8,32]{1,0} parameter(0)
  %while.1 = (s32[], bf16[8,32]{1,0}) while(%start), condition=%condition, body=%body
  %all-reduce.9 = (f32[2,3]{1,0}, f32[4]{0}) all-reduce(%p, %q), replica_groups={{0,1,2,3}}, to_apply=%sum
  ROOT %fusion.4 = f32[16,8]{1,0} fusion(%r), kind=kCustom, calls=%all-reduce-scatter.1
}
"""


def test_what_is_in_a_loop_counts_as_often_as_it_runs():
    module = hlo.Module(TEXT)
    assert module.flops() == 3 * 2 * 8 * 32 * 64 and module.cycles() == 300
    found = {(one.kind, one.payload, one.overlapped): one.received for one in module.collectives()}
    assert found == {
        ("all-gather", 3 * 32 * 32 * 2.0, True): 3 * 32 * 32 * 2 * 0.75,  # one channel, two fusions, three rounds
        ("all-reduce", (6 + 4) * 4.0, False): 40 * 2 * 0.75,
        ("reduce-scatter", 64 * 8 * 4.0, False): 64 * 8 * 4 * 0.75}


def test_a_loop_that_does_not_count_is_refused():
    with pytest.raises(ValueError, match=r"cannot tell how often the loop while\.1 runs"):
        hlo.Module(TEXT.replace("direction=LT", "direction=NE"))
