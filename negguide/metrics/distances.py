"""How far one set of pictures lies from another: FID, KID and CMMD of any features, by torchmetrics and torch-fidelity."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from negguide.metrics.absent import Absent, checkpoint, require

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SUBSETS, SUBSET = 100, 1000
SIGMA, CMMD_SCALE = 10.0, 1000.0
"""Of CMMD, as its paper has them."""
BATCH = 32


def fid(ours: Tensor, theirs: Tensor) -> float:
    """Frechet distance (arXiv:1706.08500) of features (N, C) and (M, C); lower is closer. It is biased for small sets."""
    image = require("torchmetrics.image.fid", "FID")
    return float(_filled(image.FrechetInceptionDistance(_identity(ours.shape[1])), ours, theirs).compute())


def kid(ours: Tensor, theirs: Tensor, seed: int = 0) -> tuple[float, float]:
    """Kernel distance (arXiv:1801.01401) of features (N, C) and (M, C), unbiased: its mean and spread over random subsets."""
    import torch

    image = require("torchmetrics.image.kid", "KID")
    size = min(SUBSET, len(ours), len(theirs))
    with warnings.catch_warnings():  # that it keeps the features, which is meant
        warnings.simplefilter("ignore", UserWarning)
        metric = image.KernelInceptionDistance(_identity(ours.shape[1]), subsets=SUBSETS, subset_size=size)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        mean, spread = _filled(metric, ours, theirs).compute()
    return float(mean), float(spread)


def cmmd(ours: Tensor, theirs: Tensor) -> float:
    """CMMD (arXiv:2401.09603): 1000 x MMD^2 of normalised CLIP features under an RBF kernel of width 10; lower is closer.

    Of two sets of different size the first rows of the larger one are taken. The kernel sums are torch-fidelity's.
    """
    import torch

    library = require("torch_fidelity.metric_kid", "CMMD")
    count = min(len(ours), len(theirs))
    a, b = (torch.nn.functional.normalize(rows[:count].double(), dim=1).numpy() for rows in (ours, theirs))
    kernels = [library.kernel_rbf(x, y, kid_kernel_rbf_sigma=SIGMA) for x, y in ((a, a), (a, b), (b, b))]
    return CMMD_SCALE * float(library.mmd2(*kernels, mmd_est="biased"))


def inception() -> Callable[[Sequence[Image]], Tensor]:
    """The Inception network of FID, pictures -> (N, 2048). Raises `Absent` without torch-fidelity or its weights."""
    library = require("torch_fidelity.feature_extractor_inceptionv3", "FID with Inception")
    url = str(library.URL_INCEPTION_V3)
    file = checkpoint(url, "FID with Inception")
    published = url.rpartition("-")[2].removesuffix(".pth")
    if not hashlib.sha256(file.read_bytes()).hexdigest().startswith(published):
        raise Absent(f"{file} is not what was published at {url}: fetch it again")
    net = library.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(file))

    def features(pictures: Sequence[Image]) -> Tensor:
        import numpy as np
        import torch

        rows = (torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1) for picture in pictures)
        with torch.no_grad():
            return torch.cat([net(row[None])[0] for row in rows])

    return features


def _identity(width: int) -> object:
    """What torchmetrics takes for a network, when features are given."""
    import torch

    module = torch.nn.Identity()
    module.num_features = width  # type: ignore[assignment]
    return module


def _filled(metric: Any, ours: Tensor, theirs: Tensor) -> Any:
    if ours.ndim != 2 or theirs.ndim != 2 or ours.shape[1] != theirs.shape[1] or min(len(ours), len(theirs)) < 2:
        raise ValueError(
            f"features are {tuple(ours.shape)} and {tuple(theirs.shape)}; possible: (N, C) and (M, C), at least 2 rows each"
        )
    metric.update(theirs.double(), real=True)
    metric.update(ours.double(), real=False)
    return metric
