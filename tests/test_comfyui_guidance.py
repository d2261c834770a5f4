"""The node pack's guidance nodes against loops written by hand, in a stand-in for ComfyUI."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import comfy_standin as comfy
import pytest
import torch
from comfy_standin import SIGMAS, calc_cond_batch, convert_cond, noise, patcher, sample, text
from torch import Tensor

FLOW_SIGMAS = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0])
WINDOW = {"start": 0.0, "stop": 1.0, "window_unit": "progress"}


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Any:
    return comfy.installed(monkeypatch)


def negatives(nodes: Any, *entries: tuple[int, float], **more: Any) -> Any:
    chain: Any = ()
    for seed, weight in entries:
        values = {**WINDOW, **more}
        (chain,) = nodes.NegativeNode.execute(text(seed), weight, previous=chain, **values).args
    return chain


def node(nodes: Any, name: str) -> Any:
    return next(cls for cls in nodes.METHOD_NODES if cls.method == name)


def patched(nodes: Any, name: str, model: Any, **values: Any) -> Any:
    """The node with its default inputs, changed by `values`."""
    cls = node(nodes, name)
    given = {one.id: one.about["default"] for one in cls.GET_SCHEMA().inputs if "default" in one.about}
    return cls.execute(model, **{**given, **values}).args[0]


def by_hand(
    rule: Any, start: Tensor, seeds: tuple[int, ...], sigmas: Tensor = SIGMAS, sampling: Any = comfy.EPS
) -> Tensor:
    """Euler in float64, one picture at a time; `rule(d, eps_0, d_pos)` gives the guided noise or velocity."""
    model = patcher(sampling).model
    results = []
    for x in start.split(1):
        x = x if sampling is comfy.CONST else x * sigmas[0]
        for index, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
            conds = [convert_cond(text(seed)) for seed in (1, 2, *seeds)]
            estimates = calc_cond_batch(model, conds, x, sigma.expand(1), {})
            cond, uncond, *others = ((x.double() - estimate.double()) / sigma for estimate in estimates)
            guided = rule([other - uncond for other in others], uncond, cond - uncond, index)
            x = (x.double() + guided * (following - sigma)).float()
        results.append(x)
    return torch.cat(results)


def cut(d: Tensor, onto: Tensor) -> Tensor:
    a, b = d.flatten().tolist(), onto.flatten().tolist()
    share = sum(p * q for p, q in zip(a, b, strict=True)) / sum(q * q for q in b)
    return d - share * onto


def test_perp_neg_is_the_hand_loop_and_each_picture_is_what_it_is_alone(nodes: Any) -> None:
    model = patched(nodes, "perp_neg", patcher(), negatives=negatives(nodes, (3, 1.0), (4, 0.5)))
    expected = by_hand(
        lambda d, base, pos, _: base + 4 * (pos - cut(d[0], pos) - 0.5 * cut(d[1], pos)), noise(), (3, 4)
    )
    together = sample(model, noise())
    assert torch.allclose(together, expected, rtol=1e-4, atol=1e-4)
    assert (together - sample(patcher(), noise())).abs().max() > 0.1
    for at, one in enumerate(noise().split(1)):
        assert torch.allclose(sample(model, one)[0], together[at], rtol=1e-5, atol=1e-5)


def test_signed_negatives_take_the_own_scale_and_the_empty_conditioning(nodes: Any) -> None:
    chain = negatives(nodes, (3, 1.0))
    model = patched(nodes, "signed", patcher(), negatives=chain, scale=2.0)
    expected = by_hand(lambda d, base, pos, _: base + 4 * pos - 2 * d[0], noise(1), (3,))
    assert torch.allclose(sample(model, noise(1)), expected, rtol=1e-4, atol=1e-4)
    model = patched(nodes, "signed", patcher(), negatives=chain, empty_conditioning=text(5))
    expected = by_hand(lambda d, base, pos, _: (base + d[1]) + 4 * (pos - d[1]) - 4 * (d[0] - d[1]), noise(1), (3, 5))
    assert torch.allclose(sample(model, noise(1)), expected, rtol=1e-4, atol=1e-4)


def test_contrastive_negatives_weigh_the_noise_and_not_the_clean_estimate(nodes: Any) -> None:
    model = patched(nodes, "ccfg", patcher(), negatives=negatives(nodes, (3, 1.5)), tau=0.02)

    def rule(d: list[Tensor], base: Tensor, pos: Tensor, _: int) -> Tensor:
        return base + 4 * (pos - 1.5 * d[0] * 2 / (1 + (0.02 * (d[0] ** 2).sum()).exp()))

    assert torch.allclose(sample(model, noise(2)), by_hand(rule, noise(2), (3,)), rtol=1e-4, atol=1e-4)


def test_a_window_is_a_fraction_of_the_steps_or_a_noise_level_and_costs_nothing_when_closed(nodes: Any) -> None:
    def rule(steps: set[int]) -> Any:
        return lambda d, base, pos, at: base + 4 * pos - (4 * d[0] if at in steps else 0)

    for window, steps in (((0.2, 0.6, "progress"), {1, 2}), ((7.0, 0.5, "sigma"), {1, 2, 3})):
        limits = dict(zip(WINDOW, window, strict=True))
        model = patched(nodes, "signed", patcher(), negatives=negatives(nodes, (3, 1.0), **limits))
        assert torch.allclose(sample(model, noise(1)), by_hand(rule(steps), noise(1), (3,)), rtol=1e-4, atol=1e-4)
        assert model.model.calls == 2 * 5 + len(steps)


def test_a_mask_confines_a_negative(nodes: Any) -> None:
    mask = torch.zeros(1, 6, 6)
    mask[..., :3] = 1
    model = patched(nodes, "signed", patcher(), negatives=negatives(nodes, (3, 1.0), mask=mask))
    expected = by_hand(lambda d, base, pos, _: base + 4 * (pos - mask * d[0]), noise(1), (3,))
    assert torch.allclose(sample(model, noise(1)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("perp_neg", {"weight": 0.0}),
        ("signed", {"weight": 0.0}),
        ("signed", {"scale": 0.0}),
        ("ccfg", {"scale": 0.0}),
        ("dng", {"prior": 0.0}),
        ("perp_neg", {"stop": 0.0}),
        ("apg", {"eta": 1.0, "norm_threshold": 0.0, "momentum": 0.0}),
        ("cfg_zero_star", {"optimal_scale": False}),
        ("rescale", {"guidance_rescale": 0.0}),
        ("interval", {"start": 0.0}),
        ("spell", {"radius": 0.0}),
        ("particle_guidance", {"scale": 0.0}),
    ],
)
def test_neutral_settings_are_the_stock_sampler_bit_for_bit(nodes: Any, name: str, values: dict[str, Any]) -> None:
    values = dict(values)
    if "negatives" in METHOD_FIELDS(nodes, name):
        weight = values.pop("weight", 1.0)
        values["negatives"] = negatives(nodes, (3, weight), stop=values.pop("stop", 1.0))
    if name == "interval":
        values["stop"] = 1.0
    model = patched(nodes, name, patcher(), **values)
    assert torch.equal(sample(model, noise()), sample(patcher(), noise()))
    assert sample(model, noise()).isfinite().all()


def METHOD_FIELDS(nodes: Any, name: str) -> Any:
    return nodes.METHODS[name].method.__dataclass_fields__


@pytest.mark.parametrize("name", ["perp_neg", "signed", "ccfg", "dng", "apg", "cfg_zero_star", "rescale", "interval"])
def test_each_picture_is_what_it_is_alone_and_no_run_remembers_another(nodes: Any, name: str) -> None:
    more = {"negatives": negatives(nodes, (3, 1.0))} if "negatives" in METHOD_FIELDS(nodes, name) else {}
    model = patched(nodes, name, patcher(), **more)
    together = sample(model, noise())
    assert not torch.allclose(together, sample(patcher(), noise()), atol=1e-3)
    for at, one in enumerate(noise().split(1)):
        assert torch.allclose(sample(model, one)[0], together[at], rtol=1e-5, atol=1e-5)
    assert torch.equal(sample(model, noise()), together)


def test_apg_is_the_papers_update_on_clean_estimates_with_momentum(nodes: Any) -> None:
    model = patched(nodes, "apg", patcher(), eta=0.2, norm_threshold=3.0, momentum=-0.5)
    stock, results = patcher().model, []
    for x in noise(2).split(1):
        x, average = x * SIGMAS[0], 0.0
        for sigma, following in itertools.pairwise(SIGMAS):
            conds = [convert_cond(text(seed)) for seed in (1, 2)]
            cond, uncond = (e.double() for e in calc_cond_batch(stock, conds, x, sigma.expand(1), {}))
            average = cond - uncond - 0.5 * average
            d = average * min(1.0, 3.0 / float(average.norm()))
            along = (d * cond).sum() / (cond * cond).sum() * cond
            denoised = cond + 3.0 * (d - along + 0.2 * along)
            x = (x.double() + (x.double() - denoised) / sigma * (following - sigma)).float()
        results.append(x)
    assert torch.allclose(sample(model, noise(2)), torch.cat(results), rtol=1e-4, atol=1e-4)


def test_cfg_zero_star_stays_in_the_first_step_of_a_flow_model(nodes: Any) -> None:
    model = patched(nodes, "cfg_zero_star", patcher(comfy.CONST))

    def rule(d: list[Tensor], base: Tensor, pos: Tensor, at: int) -> Tensor:
        cond = base + pos
        scaled = (cond * base).sum() / (base * base).sum() * base
        return torch.zeros_like(base) if at == 0 else scaled + 4 * (cond - scaled)

    expected = by_hand(rule, noise(2), (), FLOW_SIGMAS, comfy.CONST)
    assert torch.allclose(sample(model, noise(2), sigmas=FLOW_SIGMAS), expected, rtol=1e-4, atol=1e-4)


def test_rescale_of_a_v_prediction_model_is_that_of_v(nodes: Any) -> None:
    model = patched(nodes, "rescale", patcher(comfy.V_PREDICTION), guidance_rescale=0.7)
    stock, x = patcher(comfy.V_PREDICTION).model, noise(1) * SIGMAS[0]
    for sigma, following in itertools.pairwise(SIGMAS):
        length = (sigma**2 + 1) ** 0.5
        v_cond, v_uncond = (stock.diffusion_model(x / length, text(seed)[0][0], {}).double() for seed in (1, 2))
        guided = v_uncond + 4 * (v_cond - v_uncond)
        v = 0.7 * guided * v_cond.std() / guided.std() + 0.3 * guided
        denoised = x.double() / length**2 - v * sigma / length
        x = (x.double() + (x.double() - denoised) / sigma * (following - sigma)).float()
    assert torch.allclose(sample(model, noise(1)), x, rtol=1e-4, atol=1e-4)


def test_interval_leaves_the_prompt_alone_outside(nodes: Any) -> None:
    model = patched(nodes, "interval", patcher(), start=0.2, stop=0.6)
    expected = by_hand(lambda _, base, pos, at: base + (4 if at in (1, 2) else 1) * pos, noise(1), ())
    assert torch.allclose(sample(model, noise(1)), expected, rtol=1e-4, atol=1e-4)


def test_spell_keeps_the_pictures_of_a_batch_apart(nodes: Any) -> None:
    start = noise(1) + 0.01 * noise(3)
    model = patched(nodes, "spell", patcher(), radius=2.0)
    assert spread(sample(model, start)) > 1.2 * spread(sample(patcher(), start))
    assert torch.equal(sample(model, start[:1]), sample(patcher(), start[:1]))


class Vae:
    """Latents are the pictures' colours, twice as large as the sampler's."""

    def encode(self, pixels: Tensor) -> Tensor:
        return torch.cat([pixels, pixels[..., :1]], -1).movedim(-1, 1)


def test_spell_keeps_each_picture_away_from_references(nodes: Any) -> None:
    pictures = torch.rand(2, 6, 6, 3, generator=torch.Generator().manual_seed(5))
    model = patched(nodes, "spell", patcher(), radius=40.0, references=pictures, vae=Vae())
    r, stock, x = 40.0 * (4 * 6 * 6) ** 0.5, patcher().model, noise(1) * SIGMAS[0]
    for sigma, following in itertools.pairwise(SIGMAS):
        cond, uncond = calc_cond_batch(stock, [convert_cond(text(s)) for s in (1, 2)], x, sigma.expand(1), {})
        denoised = uncond + 4 * (cond - uncond)
        pushed = denoised.clone()
        for picture in Vae().encode(pictures) / 2:
            away = denoised - picture
            pushed += 1.6 * max(0.0, r / float(away.norm()) - 1) * away
        x = x + (x - pushed) / sigma * (following - sigma)
    assert torch.allclose(sample(model, noise(1)), x, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(x, sample(patcher(), noise(1)), atol=1e-2)
    with pytest.raises(ValueError, match="connect it to vae"):
        patched(nodes, "spell", patcher(), references=pictures)


def spread(x: Tensor) -> float:
    return float(torch.cdist(x.flatten(1), x.flatten(1)).sum())


def test_nodes_go_together_in_their_order(nodes: Any) -> None:
    model = patched(nodes, "signed", patcher(), negatives=negatives(nodes, (3, 1.0)))
    both = patched(nodes, "rescale", model, guidance_rescale=1.0)

    def rule(d: list[Tensor], base: Tensor, pos: Tensor, _: int) -> Tensor:
        guided = base + 4 * (pos - d[0])
        return guided * (base + pos).std() / guided.std()

    assert torch.allclose(sample(both, noise(1)), by_hand(rule, noise(1), (3,)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(sample(model, noise(1)), sample(both, noise(1)), atol=1e-3)
    assert len(both.wrappers["outer_sample"]["negguide"]) == 1


def test_functions_of_other_nodes_come_after(nodes: Any) -> None:
    other = patcher()
    other.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * 0.5)
    model = patched(nodes, "signed", other, negatives=negatives(nodes, (3, 1.0)))
    expected = by_hand(lambda d, base, pos, _: base + 4 * (pos - d[0]), noise(1), (3,))
    assert not torch.allclose(sample(model, noise(1)), expected, atol=1e-2)
    last = model.model_options["sampler_post_cfg_function"][-1]
    assert last is other.model_options["sampler_post_cfg_function"][0]


def test_what_cannot_act_says_so(nodes: Any) -> None:
    chain = negatives(nodes, (3, 1.0))
    model = patched(nodes, "perp_neg", patcher(), negatives=chain)
    with pytest.raises(ValueError, match="none at cfg 1: raise cfg above 1, or use NAG"):
        sample(model, noise(1), cfg=1.0)
    model.set_model_sampler_cfg_function(lambda args: args["input"] - args["cond_denoised"])
    with pytest.raises(ValueError, match="guidance formula of its own"):
        sample(model, noise(1))
    with pytest.raises(ValueError, match="limited by 'mask'; use the mask input"):
        nodes.NegativeNode.execute([[text(3)[0][0], {"mask": torch.ones(6, 6)}]], 1.0, **WINDOW)
    with pytest.raises(ValueError, match="0 <= start <= stop <= 1"):
        nodes.NegativeNode.execute(text(3), 1.0, start=0.8, stop=0.2, window_unit="progress")


def test_after_an_error_the_guider_has_its_own_conditionings_only(nodes: Any) -> None:
    model = patched(nodes, "perp_neg", patcher(), negatives=negatives(nodes, (3, 1.0)))
    guider = comfy.CFGGuider(model)
    guider.set_conds(text(1), text(2))
    with pytest.raises(ValueError, match="none at cfg 1"):
        guider.sample(noise(1))
    assert set(guider.conds) == {"positive", "negative"}


def test_every_node_is_handed_to_comfyui_with_ranges_defaults_and_tooltips(nodes: Any) -> None:
    listed = asyncio.run(asyncio.run(nodes.comfy_entrypoint()).get_node_list())
    schemas = [cls.GET_SCHEMA() for cls in listed]
    assert len({schema.node_id for schema in schemas}) == len(schemas) >= 11
    assert all(schema.node_id.startswith("Negguide") and schema.description for schema in schemas)
    for schema in schemas:
        ids = [one.id for one in (*schema.inputs, *schema.outputs) if one.id]
        assert len(set(ids)) == len(ids), schema.node_id  # ComfyUI refuses the whole pack otherwise
        for one in schema.inputs:
            if one.io_type in ("FLOAT", "INT"):
                assert one.about["min"] <= one.about["default"] <= one.about["max"], (schema.node_id, one.id)
            assert one.about.get("tooltip") or one.id == "model", (schema.node_id, one.id)
    tau = next(one for one in node(nodes, "ccfg").GET_SCHEMA().inputs if one.id == "tau")
    assert (tau.about["default"], tau.about["min"]) == (0.2, 0.0)
