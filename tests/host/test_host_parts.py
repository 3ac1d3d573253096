"""The small parts of attention_patches/comfy by themselves: the host's own classes, no sampling."""

import copy
import logging
import math
import uuid
from types import SimpleNamespace as Obj

import comfy.model_sampling
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from magicstyle.attention_patches.architectures import find
from magicstyle.attention_patches.architectures.base import Parametrization
from magicstyle.attention_patches.call import Handlers
from magicstyle.attention_patches.capture import TrajectoryRecorder, Watch
from magicstyle.attention_patches.comfy import conds, fusion, models, recorded, recording, reruns, start, walks
from magicstyle.attention_patches.comfy.runs import Run
from magicstyle.attention_patches.comfy.start import Start
from magicstyle.attention_patches.entry import Entry
from magicstyle.attention_patches.seam import OVERRIDE
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.grid import Window
from magicstyle.core.layers import LayerId


class Flow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    """A rectified flow."""


class Model:
    """A MODEL as far as the parts look at it."""

    def __init__(self, sampling=None, **options):
        self.sampling = sampling or comfy.model_sampling.ModelSamplingDiscrete()
        self.model_options = {"transformer_options": options}
        self.injections, self.object_patches, self.wrappers = {}, {}, {}
        self.model, self.patches_uuid = Obj(process_latent_in=lambda latent: 3.0 * latent), "plain"

    def get_model_object(self, name):
        return {"model_sampling": self.sampling}[name]


def test_a_replay_has_the_patches_of_the_model_that_made_the_trajectory_and_nothing_else_of_it():
    level, theirs = torch.tensor([2.0]), Model(patches={"a": [1]}, own=True)
    running = {
        "patches": {"b": [2]},
        "patches_replace": {"dit": {}},
        OVERRIDE: len,
        "rope_options": {"scale_x": 2.0},
        "cond_or_uncond": [1, 0],
        "more": 3,
    }
    before = dict(running)
    found = reruns.replay_options(Obj(source=walks.ModelSource(theirs)), running, level)
    assert found["patches"] is theirs.model_options["transformer_options"]["patches"]
    assert not {"patches_replace", OVERRIDE, "rope_options", "own"} & set(found)
    assert found["more"] == 3 and found["cond_or_uncond"] == [0]
    assert found["sigmas"] is level and Entry.of(found).replaying and not Entry.of(running).replaying
    assert running == before
    unknown = reruns.replay_options(Obj(source=None), running, level)
    assert all(unknown[key] is running[key] for key in reruns.ANSWERING)


def test_a_replay_has_one_uuid_for_its_trajectory_that_no_cond_of_the_run_has():
    running, one, other = {"uuids": [uuid.uuid4(), uuid.uuid4()]}, Obj(source=None), Obj(source=None)
    (first,), (again,), (second,) = (
        reruns.replay_options(each, running, torch.ones(1))["uuids"] for each in (one, one, other)
    )
    assert first == again != second and not {first, second} & set(running["uuids"])


def test_around_the_network_a_replay_has_the_wrappers_of_its_trajectorys_model_or_for_a_file_the_runs_less_caches():
    around, calls = WrappersMP.DIFFUSION_MODEL, {"easycache": ["call"], "lazycache": ["call"], "theirs": ["call"]}
    running = {"wrappers": {around: {"easycache": [1], "lazycache": [2], "theirs": [3]}, WrappersMP.APPLY_MODEL: calls}}
    before, theirs = (
        copy.deepcopy(running),
        Model(wrappers={around: {"told": [4]}, WrappersMP.APPLY_MODEL: {"no": [5]}}),
    )
    theirs.wrappers = {around: {"added": [6]}, WrappersMP.APPLY_MODEL: {"no": [7]}}

    def wrappers(source, options=running):
        return reruns.replay_options(Obj(source=source), options, torch.ones(1))["wrappers"]

    assert wrappers(walks.ModelSource(theirs)) == {around: {"told": [4], "added": [6]}, WrappersMP.APPLY_MODEL: calls}
    assert wrappers(walks.ModelSource(Model())) == {around: {}, WrappersMP.APPLY_MODEL: calls}
    assert wrappers(None) == {around: {"theirs": [3]}, WrappersMP.APPLY_MODEL: calls}
    assert wrappers(None, {}) == {around: {}} and running == before


def test_how_far_a_level_is_from_clean_is_the_models_timestep_a_place_in_log_space_or_the_level_of_a_flow():
    discrete = comfy.model_sampling.ModelSamplingDiscrete()
    for step in (0, 250, 999):
        assert fusion._noise_share(discrete, float(discrete.sigmas[step])) == pytest.approx(step / 1000)
    continuous = Obj(sigma_min=0.01, sigma_max=100.0)
    for sigma, share in ((0.01, 0.0), (0.1, 0.25), (1.0, 0.5), (100.0, 1.0), (0.001, 0.0), (1000.0, 1.0)):
        assert fusion._noise_share(continuous, sigma) == pytest.approx(share)
    assert fusion._noise_share(Flow(), 0.37) == 0.37


@pytest.mark.parametrize("extra, rows", [(0, 2), (1, 3), (960, 3), (961, 4)])
def test_the_host_is_asked_for_as_many_rows_more_as_hold_what_fusion_adds(extra, rows):
    patcher = Obj(memory_required=lambda shape: 2 * math.prod(shape))
    assert fusion._with_room(patcher, [2, 4, 10, 12], extra) == [rows, 4, 10, 12]
    assert fusion._with_room(Obj(memory_required=lambda shape: 0), (2, 4, 10, 12), extra) == [2, 4, 10, 12]


def test_a_run_warns_once_of_each_deed_and_of_nothing(caplog):
    run, layers = Run(None, None), [LayerId("output", 9, 0), LayerId("output", 6, 0)]
    with caplog.at_level(logging.WARNING, logger="magicstyle"):
        run.called([], layers)
        for _ in range(2):
            run.called(layers, layers)
        run.account.merged.add(LayerId("output", 3, 0))  # which is not chosen
        run.called([], layers)
        assert run.yielded == set(layers)
        run.account.merged.add(layers[0])
        for _ in range(2):
            run.called([], layers)
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(";")[0] for text in said] == [
        "FFA Model Patcher: another node replaces the self-attention of output.6.0, output.9.0",
        "FFA Model Patcher: another node merges, tiles or adds tokens in the self-attention of output.9.0",
    ]


def test_a_run_holds_what_was_replayed_for_each_precision_while_weights_are_steady():
    steady, changing, x = Run(None, None), Run(None, None, steady=False), torch.zeros(1)
    assert steady.held(x) is steady.held(x) and steady.held(x) is not steady.held(x.half())
    assert changing.held(x) is not changing.held(x)
    assert steady.lane(torch.device("cpu")) is None
    assert copy.deepcopy({"run": steady})["run"] is steady  # as the host copies its options


@pytest.mark.parametrize(
    "sigma, erased, share", [(1.0, True, 1.0), (0.99995, True, 1.0), (0.999, False, 0.001), (0.4, False, 0.6)]
)
def test_a_flow_erases_its_latent_at_full_noise_alone(sigma, erased, share):
    assert start.is_flow(Flow()) and start.erases(Flow(), sigma) is erased
    assert start.latent_share(Flow(), sigma) == pytest.approx(share)
    plain = comfy.model_sampling.ModelSamplingDiscrete()
    assert not start.is_flow(plain) and not start.erases(plain, sigma) and start.latent_share(plain, sigma) == 1.0


def test_a_latent_that_would_be_erased_travels_as_noise_and_any_other_stays():
    sampler, levels = comfy.samplers.ksampler("euler"), torch.tensor([1.0, 0.5, 0.0])
    empty, latent = torch.zeros(1, 4, 2, 2), torch.full((1, 4, 2, 2), 2.0)
    found = start.started(Model(Flow()), sampler, levels, Start(empty, latent))
    assert bool((found.noise == 6.0).all()) and not found.latent.any()
    others = [
        (Model(Flow()), sampler, levels[1:], Start(empty, latent)),  # below full noise
        (Model(Flow()), sampler, levels, Start(latent, latent)),  # with noise of its own
        (Model(Flow()), sampler, levels, Start(empty, empty)),
        (Model(Flow()), object(), levels, Start(empty, latent)),  # a sampler that begins by itself
        (Model(), sampler, levels, Start(empty, latent)),
    ]
    for given in others:
        assert start.started(*given) is given[-1]


def test_a_flow_that_starts_above_one_is_scaled_to_its_first_level():
    sampling = Flow()
    sampling.noise_scale = 2.0
    latent = torch.full((1, 4, 2, 2), 2.0)
    given = Start(torch.zeros_like(latent), latent)
    found = start.started(Model(sampling), comfy.samplers.ksampler("euler"), torch.tensor([1.5, 0.0]), given)
    assert bool((found.noise == 2.0).all())  # 3 x 2 / (1.5 x 2)


PROMPTS = {"positive": [{"uuid": "p"}], "negative": [{"uuid": "n"}], "middle_negative": [{"uuid": "m"}], "none": None}


def test_prompts_are_negative_by_the_guiders_name_for_them():
    given, x = {"transformer_options": {"a": 1}, "b": 2}, torch.zeros(1, 4, 10, 16)
    named = conds.with_prediction_named(given, x, Obj(conds=PROMPTS))
    expected = {(False, frozenset("p")), (True, frozenset("n")), (True, frozenset("m")), (False, frozenset())}
    assert set(Entry.of(named["transformer_options"]).prompts) == expected
    assert named["b"] == 2 and named["transformer_options"]["a"] == 1
    alone = Entry.of(conds.with_prediction_named(given, x, None)["transformer_options"])
    assert Entry.of(named["transformer_options"]).latent is alone.latent is x and alone.prompts == ()
    assert given == {"transformer_options": {"a": 1}, "b": 2}


@pytest.mark.parametrize(
    "uuids, negative",
    [("p", False), ("n", True), ("np", True), ("x", False), ("", False), ("s", False), ("sn", True), ("sp", False)],
)
def test_a_list_of_conds_is_negative_by_what_it_shares_with_negative_prompts_alone(uuids, negative):
    prompts = [(False, frozenset("ps")), (True, frozenset("n")), (True, frozenset("ns"))]
    assert conds._is_negative(frozenset(uuids), prompts) is negative


@pytest.mark.parametrize(
    "area, window",
    [
        ((4, 6, 1, 2), Window(1, 2, 4, 6)),
        ((20, 30, 1, 2), Window(1, 2, 9, 14)),
        ((10, 16, 0, 0), Window(0, 0, 10, 16)),
    ],
)
def test_an_area_is_cut_at_the_edges_as_the_host_does(area, window):
    assert conds._window(area, (10, 16)) == window


def test_each_cond_with_an_area_has_its_window_and_each_list_its_sign():
    x = torch.zeros(1, 4, 10, 16)
    options = conds.with_prediction_named({"transformer_options": {}}, x, Obj(conds=PROMPTS))
    listed = [[{"uuid": "p", "area": (4, 6, 1, 2)}, {"uuid": "q"}], None, [{"uuid": "n"}]]
    entry = Entry.of(conds.with_conds_named(options, listed, x)["transformer_options"])
    assert dict(entry.areas) == {"p": Window(1, 2, 4, 6)} and entry.negative == frozenset({2})
    part = Entry.of(conds.with_conds_named(options, listed, x[..., :8])["transformer_options"])
    assert not part.areas and part.negative == frozenset({2})  # an area in a context window counts from its edge


def test_weights_are_told_apart_by_model_and_by_patches():
    one, other = Model(), Model()
    assert models.weights_id(one) == models.weights_id(one) != models.weights_id(other)
    before = models.weights_id(one)
    one.patches_uuid = "with a LoRA"
    assert models.weights_id(one) != before


def test_weights_change_where_a_cond_carries_hooks():
    assert not recorded.weights_change(Obj(conds={"positive": [{}], "negative": None}))
    assert not recorded.weights_change(Obj(conds={"positive": [{"hooks": None}]}))
    assert recorded.weights_change(Obj(conds={"positive": [{}], "negative": [{}, {"hooks": [1]}]}))


@pytest.mark.parametrize("parametrization", Parametrization)
def test_a_model_that_samples_otherwise_than_its_network_was_made_for_is_refused(monkeypatch, parametrization):
    flow = parametrization is Parametrization.FLOW
    kind = Obj(parametrization=parametrization, since=())
    monkeypatch.setattr(models, "find", lambda model: kind)
    assert models.check_model(Model(Flow() if flow else None)) is kind
    words = "without" if flow else "by"
    with pytest.raises(MagicStyleError, match=f"samples {words} flow matching, which its network was not made for"):
        models.check_model(Model(None if flow else Flow()))
    kind.since = (999, 4, 2)
    with pytest.raises(MagicStyleError, match="for which ComfyUI 999.4.2 or newer is needed"):
        models.check_model(Model(Flow() if flow else None))
    kind.since = models.host_version()
    models.check_model(Model(Flow() if flow else None))


@pytest.mark.parametrize("together, rows", [({}, 3), ({"together": 4}, 12)])
def test_a_capture_makes_room_for_the_rows_of_the_steps_that_share_a_call_and_leaves_the_model_as_it_is(
    tiny_model, together, rows
):
    captured = recording.install_capture(tiny_model, find(tiny_model), TrajectoryRecorder(1, torch.float32), **together)
    (wrapper,) = captured.wrappers[WrappersMP.PREPARE_SAMPLING]["magicstyle.capture"]
    handed_on = wrapper(
        lambda patcher, shape, *more, **kw: (patcher, shape, more, kw), "patcher", (3, 4, 6, 10), 5, a=6
    )
    assert handed_on == ("patcher", [rows, 4, 6, 10], (5,), {"a": 6})
    assert not any("magicstyle.capture" in keys for keys in tiny_model.wrappers.values())


def test_recorders_and_readers_hear_of_the_model_calls_of_their_clone(tiny_model):
    heard = []
    recorder = Obj(see_inputs=heard.append, handlers=None, watch=Watch())
    reader = Obj(handlers=Handlers(lambda call: None))
    captured, reading = (
        recording.install_capture(tiny_model, find(tiny_model), recorder),
        recording.install_word_reader(tiny_model, find(tiny_model), reader),
    )
    given = torch.zeros(1, 4, 6, 10), torch.ones(1), None, torch.zeros(1, 7, 8), None, {"cond_or_uncond": [0]}

    def executor(*args, **kw):
        return OVERRIDE in args[5], kw

    for clone, key, hooked in ((captured, "magicstyle.capture", False), (reading, "magicstyle.words", True)):
        (wrapper,) = clone.wrappers[WrappersMP.APPLY_MODEL][key]
        assert wrapper(executor, *given, y=3) == (hooked, {"y": 3})
    assert len(heard) == 1 and heard[0].inputs["y"] == 3 and given[5] == {"cond_or_uncond": [0]}
    assert recorder.watch.hosted and WrappersMP.DIFFUSION_MODEL not in captured.wrappers  # nobody stands in between


def test_a_capture_inside_anothers_wrapper_refuses_a_call_that_is_answered_from_its_memory(tiny_model):
    model, x = tiny_model.clone(), torch.zeros(1, 4, 6, 10)
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "their_cache", len)
    captured = recording.install_capture(model, find(model), TrajectoryRecorder(2, torch.float32))
    (shown,) = captured.wrappers[WrappersMP.APPLY_MODEL]["magicstyle.capture"]
    (inside,) = captured.wrappers[WrappersMP.DIFFUSION_MODEL]["magicstyle.capture"]
    given = x, torch.ones(1), None, torch.zeros(1, 7, 8), None, {"cond_or_uncond": [0]}
    assert shown(lambda *args, **kw: inside(lambda x: x + 1, args[0]), *given).equal(x + 1)
    with pytest.raises(MagicStyleError, match=r"another node \(their_cache\) answered 1 of 2 calls of the inversion's"):
        shown(lambda *args, **kw: args[0], *given)
