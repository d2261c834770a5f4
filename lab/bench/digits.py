"""Taking one class away from a model of handwritten digits, as the paper of dynamic negative guidance does, in small.

    python -m lab.bench.digits        trains on the digits that scikit-learn ships (two minutes in all) and prints two tables

*Alone*: of digits without any prompt, one of the ten is not wanted. *Overlapping*: of the even or the odd digits, with guidance,
one is not wanted. The samplers are loops of DDIM over the functions of `negguide.maths`; a classifier of
the real digits judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from torch import Tensor, nn

from negguide import maths
from negguide.metrics.intervals import rate

CLASSES = 10
EVEN, ODD, NOTHING = 10, 11, 12
"""Labels beside the ten digits: two groups, and no label."""
TRAINING, BATCH, RATE, WIDTH = 6000, 256, 1e-3, 256
STEPS, EACH, SCALE = 50, 100, 3.0
"""Steps of DDIM, pictures for each unwanted digit, and the guidance scale with a group as the prompt."""

Predict = Callable[[Tensor, int, int], Tensor]
"""(latents, timestep, label) -> epsilon."""


class Denoiser(nn.Module):
    """Predicts the noise of (B, 64) flattened digits in [-1, 1] from their timestep and label."""

    def __init__(self) -> None:
        super().__init__()
        self.labels = nn.Embedding(NOTHING + 1, WIDTH)
        self.times = nn.Sequential(nn.Linear(32, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.inward, self.outward = nn.Linear(64, WIDTH), nn.Linear(WIDTH, 64)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, WIDTH))
            for _ in range(4)
        )

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """(B, 64), (B,) and (B,) -> (B, 64)."""
        frequencies = torch.exp(torch.linspace(0, math.log(1000), 16)) * math.pi / 1000
        angles = t[:, None].float() * frequencies
        told = self.times(torch.cat([angles.sin(), angles.cos()], 1)) + self.labels(label)
        hidden = self.inward(x)
        for block in self.blocks:
            hidden = hidden + block(hidden + told)
        return self.outward(hidden)


def alphas() -> Tensor:
    """(1000,) cumulative alphas of the cosine schedule."""
    t = torch.arange(1, 1001) / 1000
    return (torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2).clamp(1e-4)


def trained(pictures: Tensor, digits: Tensor) -> Denoiser:
    """A denoiser that knows each digit, both groups, and digits without a label."""
    torch.manual_seed(0)
    model, abar = Denoiser(), alphas()
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, TRAINING)
    for _ in range(TRAINING):
        chosen = torch.randint(len(pictures), (BATCH,))
        x0, t, noise = pictures[chosen], torch.randint(1000, (BATCH,)), torch.randn(BATCH, 64)
        said = torch.stack([digits[chosen], EVEN + digits[chosen] % 2, torch.full((BATCH,), NOTHING)])
        label = said[torch.randint(3, (BATCH,)), torch.arange(BATCH)]
        level = abar[t][:, None]
        loss = (model(level.sqrt() * x0 + (1 - level).sqrt() * noise, t, label) - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@dataclass
class Dynamic:
    """Dynamic negative guidance, `eps - scale * odds * (eps_k - origin)`, its posterior followed from step to step."""

    prior: float
    temperature: float
    scale: float = 1.0
    log_p: Tensor | None = None

    def push(self, predicted: Tensor, origin: Tensor, negative: Tensor) -> Tensor:
        """The guided prediction; the posterior starts at the prior."""
        if self.log_p is None:
            self.log_p = torch.full((len(predicted),), math.log(self.prior))
        return predicted - self.scale * maths.dng_odds(self.log_p)[:, None] * (negative - origin)

    def learn(self, guided: Tensor, origin: Tensor, negative: Tensor, snr_from: float, snr_to: float) -> None:
        """What a step taken says of the posterior; all are clean estimates (B, 64)."""
        ratio = maths.log_likelihood_ratio(
            maths.squared_distance(guided, origin), maths.squared_distance(guided, negative), snr_from, snr_to
        )
        assert self.log_p is not None
        self.log_p = maths.dng_update(self.log_p, self.temperature * ratio, 1e-6, 0.8)


@dataclass(frozen=True)
class Rule:
    """How predictions (without a label, of the prompt, of the unwanted digit) become one."""

    combine: Callable[[Tensor, Tensor, Tensor], Tensor]
    dynamic: Callable[[], Dynamic] | None = None
    from_prompt: bool = False


@torch.no_grad()
def sample(predict: Predict, unwanted: int, prompt: int, rule: Rule, dynamic: Dynamic | None) -> Tensor:
    """(EACH, 64) digits by DDIM; `dynamic` counts the negative from `NOTHING`, or with rule "from prompt" from the prompt."""
    generator = torch.Generator().manual_seed(1000 * prompt + unwanted)
    abar, x = alphas(), torch.randn(EACH, 64, generator=generator)
    times = torch.linspace(999, 0, STEPS).long().tolist()
    for place, t in enumerate(times):
        level = abar[t]
        after = abar[times[place + 1]] if place + 1 < STEPS else torch.tensor(1.0)
        nothing, negative = predict(x, t, NOTHING), predict(x, t, unwanted)
        wanted = nothing if prompt == NOTHING else predict(x, t, prompt)
        origin = wanted if rule.from_prompt else nothing
        eps = rule.combine(nothing, wanted, negative)
        if dynamic is not None:
            eps = dynamic.push(eps, origin, negative)

        def clean(noise: Tensor, x: Tensor = x, level: Tensor = level) -> Tensor:
            return (x - (1 - level).sqrt() * noise) / level.sqrt()

        if dynamic is not None and place + 1 < STEPS:
            snrs = [float(value / (1 - value)) for value in (level, after)]
            dynamic.learn(clean(eps), clean(origin), clean(negative), snrs[0], snrs[1])
        x = after.sqrt() * clean(eps) + (1 - after).sqrt() * eps
    return x


def _guided(nothing: Tensor, wanted: Tensor, negative: Tensor) -> Tensor:
    return nothing + SCALE * (wanted - nothing)


def _alone(nothing: Tensor, wanted: Tensor, negative: Tensor) -> Tensor:
    return nothing


def _static(weight: float, nothing: Tensor, wanted: Tensor, negative: Tensor) -> Tensor:
    return nothing - weight * (negative - nothing)


def _signed(weight: float, nothing: Tensor, wanted: Tensor, negative: Tensor) -> Tensor:
    return _guided(nothing, wanted, negative) - SCALE * weight * (negative - nothing)


def _replace(nothing: Tensor, wanted: Tensor, negative: Tensor) -> Tensor:
    return negative + SCALE * (wanted - negative)


def _perp_neg(weight: float, nothing: Tensor, wanted: Tensor, negative: Tensor) -> Tensor:
    direction = maths.perp_neg(wanted - nothing, [negative - nothing], [-weight])
    return nothing + SCALE * direction


ALONE: Mapping[str, Rule] = {
    "plain": Rule(_alone),
    **{f"static {weight:g}": Rule(partial(_static, weight)) for weight in (0.5, 1.0, 2.0)},
    **{f"dng, temperature {value:g}": Rule(_alone, partial(Dynamic, 0.1, value)) for value in (0.0, 0.2, 1.0)},
}
OVERLAPPING: Mapping[str, Rule] = {
    "plain": Rule(_guided),
    "replacing negative": Rule(_replace),
    "signed 0.5": Rule(partial(_signed, 0.5)),
    "perp_neg 1": Rule(partial(_perp_neg, 1.0)),
    **{
        f"dng, prior 0.1, temperature {value:g}": Rule(_guided, partial(Dynamic, 0.1, value, SCALE))
        for value in (0.2, 1.0)
    },
    **{
        f"dng from the prompt, prior 0.2, temperature {value:g}": Rule(
            _guided, partial(Dynamic, 0.2, value, SCALE), from_prompt=True
        )
        for value in (0.2, 1.0)
    },
}
"""What is compared; dynamic negative guidance with the true share as its prior."""


def table(
    predict: Predict, judge: SVC, far: Callable[[Tensor], np.ndarray], rules: Mapping[str, Rule], groups: bool
) -> str:
    """A markdown table, over every unwanted digit.

    `far(pictures)`: whether each is farther from all real ones than the farthest twentieth of the real ones not trained on.
    """
    lines = [
        "| rule | unwanted digit | gone and right | evenness of the others | like real ones |",
        "|---|---|---|---:|---|",
    ]
    for name, rule in rules.items():
        unwanted, right, evenness, real = [], [], [], []
        for digit in range(CLASSES):
            prompt = EVEN + digit % 2 if groups else NOTHING
            found = sample(predict, digit, prompt, rule, rule.dynamic() if rule.dynamic else None)
            said = judge.predict(found.numpy())
            allowed = [other for other in range(CLASSES) if other != digit and (not groups or (other - digit) % 2 == 0)]
            counts = np.array([(said == other).sum() for other in allowed])
            shares = counts[counts > 0] / max(1, counts.sum())
            unwanted.append((said == digit).mean())
            right.append(np.isin(said, allowed).mean())
            evenness.append(float(-(shares * np.log(shares)).sum() / math.log(len(allowed))))
            real.append(1 - far(found).mean())
        lines.append(f"| {name} | {_rate(unwanted)} | {_rate(right)} | {np.mean(evenness):.2f} | {_rate(real)} |")
    return "\n".join(lines)


def _rate(shares: list[float]) -> str:
    """Percent, with Wilson's 95 % interval over all pictures."""
    found = rate(shares, [EACH] * len(shares))
    assert found.low is not None and found.high is not None
    return f"{100 * found.mean:.1f} ({100 * found.low:.0f}-{100 * found.high:.0f})"


def main() -> None:
    """Train, sample, judge, print."""
    torch.set_num_threads(1)
    data = load_digits()
    pictures = torch.tensor(data.data / 8 - 1, dtype=torch.float32)
    digits = torch.tensor(data.target)
    held = torch.arange(len(pictures)) % 4 == 0
    model = trained(pictures[~held], digits[~held])
    judge = SVC().fit(pictures.numpy(), data.target)
    distances = torch.cdist(pictures[held], pictures[~held]).min(1).values
    limit = float(distances.quantile(0.95))

    def far(found: Tensor) -> np.ndarray:
        return (torch.cdist(found, pictures[~held]).min(1).values > limit).numpy()

    def predict(x: Tensor, t: int, label: int) -> Tensor:
        found: Tensor = model(x, torch.full((len(x),), t), torch.full((len(x),), label))
        return found

    print("Alone: one of ten digits is not wanted\n\n" + table(predict, judge, far, ALONE, groups=False), flush=True)
    print("\nOverlapping: of the even or odd digits one is not wanted\n")
    print(table(predict, judge, far, OVERLAPPING, groups=True))


if __name__ == "__main__":
    main()
