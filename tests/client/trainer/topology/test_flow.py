"""Every topology gives the same encoder keys, exact gradients through the cut, and leaves absent tasks alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from polyward_client.trainer.balance.cut import backward, leaves
from polyward_client.trainer.model import MultiTaskModel, parts, schema_of, shared_arrays
from polyward_client.trainer.tasks import TaskKind, kind_of
from polyward_client.trainer.topology.flow import Truth, entropy, masked_pool
from polyward_shared.study import Study
from tests.support.images import TASKS, TOPOLOGIES, make_study

SIZES = {"2d": [16, 16], "3d": [8, 8, 8]}
MORE = {**TASKS, "organ": {"kind": "segmentation", "classes": ["a", "b"]}}
NAMES = ("bright", "grade", "mask", "organ")


def study_of(topology: Mapping[str, Any], size: Sequence[int] = (16, 16), **changes: Any) -> Study:
    data = make_study(image={"size": size}, **changes).model_dump(mode="json")
    return Study.model_validate({**data, "tasks": {name: MORE[name] for name in NAMES}, "topology": topology})


def plain_loss(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: output.square().mean() for name, output in outputs.items()}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("topology", TOPOLOGIES.values(), ids=TOPOLOGIES)
def test_encoder_keys_and_bytes_are_the_same_for_every_topology_and_task_subset(
    topology: dict[str, Any], size: list[int]
) -> None:
    wanted = shared_arrays(
        MultiTaskModel(study_of(TOPOLOGIES["parallel"], size), NAMES), study_of(TOPOLOGIES["parallel"], size)
    )
    for tasks in (NAMES, NAMES[:1], NAMES[1:3]):
        study = study_of(topology, size)
        model = MultiTaskModel(study, tasks)
        found = shared_arrays(model, study)
        assert list(found) == list(wanted)
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
        assert schema_of(model, study).digest == schema_of(MultiTaskModel(study, NAMES), study).digest


@pytest.mark.parametrize("missing", [False, True], ids=["all", "one missing"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("topology", TOPOLOGIES.values(), ids=TOPOLOGIES)
def test_the_cut_with_equal_weights_is_plain_backward(topology: dict[str, Any], size: list[int], missing: bool) -> None:
    study = study_of(topology, size)
    tasks = NAMES[:-1] if missing else NAMES
    images = torch.from_numpy(np.random.default_rng(0).random((2, 1, *size), np.float32))
    plain, cut = (MultiTaskModel(study, NAMES) for _ in range(2))
    torch.stack(list(plain_loss(plain(images, tasks)).values())).mean().backward()  # type: ignore[no-untyped-call]
    pyramid = cut.encoder(images)
    edge = leaves(pyramid)
    losses = plain_loss(cut.answer(edge, tuple(size), tasks).final)
    shared = parts(cut)["encoder"]
    others = [p for part, each in parts(cut).items() if part != "encoder" for p in each]
    backward(losses, pyramid, edge, shared, others, cut.balancer, np.random.default_rng(0), space="features")
    for (name, one), two in zip(plain.named_parameters(), cut.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), name
        if one.grad is not None and two.grad is not None:
            assert torch.allclose(one.grad, two.grad, rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize("topology", TOPOLOGIES.values(), ids=TOPOLOGIES)
def test_every_parameter_learns(topology: dict[str, Any]) -> None:
    model = MultiTaskModel(study_of(topology), NAMES)
    outputs = model.answer(model.encoder(torch.rand(2, 1, 16, 16)), (16, 16))
    early = [each.square().mean() for several in outputs.early.values() for each in several]
    torch.stack([*plain_loss(outputs.final).values(), *early]).sum().backward()  # type: ignore[no-untyped-call]
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_source_that_a_site_lacks_counts_as_undecided() -> None:
    study = study_of(TOPOLOGIES["cascaded"])  # mask -> bright, grade
    model, images = MultiTaskModel(study, ("bright",)), torch.rand(2, 1, 16, 16)
    whole = MultiTaskModel(study, NAMES)
    with torch.no_grad():
        for parameter in whole.branches["mask"].head.parameters():  # type: ignore[union-attr]
            parameter.zero_()  # both classes equally likely everywhere
    assert torch.allclose(model(images)["bright"], whole(images, ("bright",))["bright"], atol=1e-6)


def test_detach_keeps_the_targets_gradient_out_of_the_source() -> None:
    edge = {"source": "mask", "target": "bright"}
    for detach in (True, False):
        study = study_of({"kind": "cascaded", "cascade": [{**edge, "detach": detach}]})
        model = MultiTaskModel(study, NAMES)
        model(torch.rand(2, 1, 16, 16), ("bright",))["bright"].sum().backward()
        touched = any(p.grad is not None for p in model.branches["mask"].parameters())
        assert touched is not detach


@pytest.mark.parametrize("gives", ["probability", "logits", "argmax", "features"])
@pytest.mark.parametrize(
    ("source", "target"), [("mask", "bright"), ("mask", "organ"), ("bright", "grade"), ("grade", "organ")]
)
def test_every_pair_of_levels_can_be_joined(gives: str, source: str, target: str) -> None:
    edge = {"source": source, "target": target, "gives": gives}
    study = study_of({"kind": "cascaded", "cascade": [edge]})
    images = torch.rand(2, 1, 16, 16)
    for tasks in (NAMES, (target,)):
        found = MultiTaskModel(study, tasks)(images, (target,))
        assert bool(found[target].isfinite().all())


def test_teacher_forcing_feeds_the_true_label_of_labelled_cases() -> None:
    edge = {"source": "mask", "target": "bright", "teacher_forcing": 1.0}
    model = MultiTaskModel(study_of({"kind": "cascaded", "cascade": [edge]}), NAMES)
    pyramid, target = model.encoder(torch.rand(2, 1, 16, 16)), torch.zeros(2, 16, 16, dtype=torch.uint8)
    target[:, 4:9, 4:9] = 1

    def answers(mask: Tensor) -> Tensor:
        truths = {"mask": Truth(mask, torch.tensor([1.0, 0.0]))}
        return model.answer(pyramid, (16, 16), ("bright",), truths=truths).final["bright"]

    one, other = answers(target), answers(1 - target)
    assert not torch.allclose(one[0], other[0])
    assert torch.equal(one[1], other[1])  # not labelled: what the mask branch predicts


def test_uncertainty_comes_from_dropout_and_repeats_with_its_seed() -> None:
    edge = {"source": "mask", "target": "bright", "passes": 5}
    study = study_of({"kind": "cascaded", "cascade": [edge]}, branches={"dropout": 0.5})
    model, images = MultiTaskModel(study, NAMES).eval(), torch.rand(2, 1, 16, 16)

    def answer(seed: int) -> dict[str, Tensor]:
        noise = torch.Generator().manual_seed(seed)
        return model.answer(model.encoder(images), (16, 16), ("bright", "mask"), noise=noise).final

    one, again, other = answer(1), answer(1), answer(2)
    assert torch.equal(one["bright"], again["bright"])
    assert not torch.equal(one["bright"], other["bright"])
    assert torch.equal(one["mask"], other["mask"])


def test_masked_pooling_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    masks = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    assert masked_pool(features, masks)[0].tolist() == pytest.approx([1.5, 0.0], abs=1e-4)
    fine = masks.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(masked_pool(features, fine), masked_pool(features, masks))


@pytest.mark.parametrize("form", [torch.float32, torch.float16, torch.bfloat16])
def test_masked_pooling_over_many_places_does_not_overflow(form: torch.dtype) -> None:
    features, masks = (torch.full((1, 1, 256, 256), value, dtype=form) for value in (1.5, 0.9))
    with torch.autocast("cpu", torch.float16 if form == torch.float32 else form):
        pooled = masked_pool(features, masks)  # 256 * 256 * 1.5 * 0.9 is beyond float16
    assert pooled.dtype == torch.float32
    assert pooled[0].tolist() == pytest.approx([1.5], rel=1e-3)


@pytest.mark.parametrize(
    ("source", "gives", "width"),
    [
        ("mask", "probability", 2 * 4),
        ("mask", "argmax", 2 * 4),
        ("mask", "logits", 2),
        ("mask", "features", 4),
        ("pair", "probability", 2),
        ("pair", "logits", 2),
    ],
)
def test_only_what_is_never_negative_is_a_mask_to_pool_under(source: str, gives: str, width: int) -> None:
    """Elsewhere weights could sum to about 0: a branch hears the spatial mean."""
    data = study_of(TOPOLOGIES["parallel"]).model_dump(mode="json")
    tasks = {**data["tasks"], "pair": {"kind": "synthesis", "channels": 2}}
    edge = {"source": source, "target": "bright", "gives": gives}
    study = Study.model_validate({**data, "tasks": tasks, "topology": {"kind": "cascaded", "cascade": [edge]}})
    model = MultiTaskModel(study, ("bright", source))
    branch: Any = model.branches["bright"]
    assert branch.joints.vectors == width
    with torch.no_grad():
        head: Any = model.branches[source].head
        head.weight.zero_()
        head.bias.copy_(torch.tensor([1.0, -1.0]))
    heard: list[Tensor] = []
    mix: Any = model.branches["bright"].mix
    mix.register_forward_pre_hook(lambda _module, given: heard.append(given[0][:, -width:]))
    pyramid = [level + 1 for level in model.encoder(torch.rand(2, 1, 16, 16))]
    model.answer(pyramid, (16, 16), ("bright",))
    if width == 2:
        assert heard[0].tolist() == [[1.0, -1.0]] * 2
    elif gives == "probability":
        assert torch.allclose(heard[0], pyramid[0].flatten(2).mean(2).repeat(1, 2), atol=1e-5)


def test_true_labels_can_be_forced_where_a_kind_has_them_in_the_form_of_its_answer() -> None:
    kinds: dict[str, dict[str, Any]] = {
        **MORE,
        "findings": {"kind": "multilabel", "classes": ["a", "b"]},
        "hazard": {"kind": "survival", "times": [1, 2]},
        "points": {"kind": "landmark", "points": ["a", "b"]},
        "vessel": {"kind": "centreline"},
        "boxes": {"kind": "detection"},
        "pair": {"kind": "synthesis"},
    }
    data = {**make_study().model_dump(mode="json"), "tasks": kinds}
    for source in kinds:
        kind = kind_of(Study.model_validate(data), source)
        edge = {"source": source, "target": next(name for name in kinds if name != source), "teacher_forcing": 0.5}
        forced = {**data, "topology": {"kind": "cascaded", "cascade": [edge]}}
        if type(kind).truth is TaskKind.truth:
            with pytest.raises(ValueError, match="teacher_forcing"):
                Study.model_validate(forced)
        else:
            Study.model_validate(forced)


def test_entropy_is_one_where_nothing_is_known() -> None:
    chances = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    assert entropy(chances)[:, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-4)


@pytest.mark.parametrize(("size", "parameters"), [([16, 16], 47_450), ([8, 8, 8], 130_778)], ids=["2d", "3d"])
def test_the_unet_decoder_has_the_usual_number_of_parameters(size: list[int], parameters: int) -> None:
    encoder = {"filters": 8, "blocks": [1, 2, 2, 4], "groups": 4}
    study = study_of(TOPOLOGIES["parallel"], size, encoder=encoder, branches={"decoder": "unet"})
    assert sum(p.numel() for p in MultiTaskModel(study, ("mask",)).branches["mask"].parameters()) == parameters
