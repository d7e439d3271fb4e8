"""PMA and k-means as matrix work: against slow references, and against the floor of their arithmetic.

    python benchmarks/matching.py
    python benchmarks/matching.py --quick

PMA forwards and backwards, float32. `definition` is paper equations 1-3 as loops over pixels, disparities and
window positions (one image: it is that slow); `disparities` is what a stereo program does, one shifted map
per disparity and box filters. The floor is the inner products of the rows, forwards and backwards:
6 B h w^2 C operations, timed as the bare batched matmuls; bytes at least: both maps read, both gradients
written, 16 B C h w.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from measuring import Timing, finish, in_turn, machine, options, table
from torch import Tensor
from torch.nn import functional as F

from moca_avs.model.clustering import spherical_kmeans
from moca_avs.model.matching import matching_cost

SIZES = [(1, 1024, 12), (8, 1024, 12), (8, 1024, 16), (8, 1280, 16), (16, 1024, 16)]  # B, C, side
HEADLINE = (1, 1024, 12)
FRAMES = (1, 4, 16)
GRID, UPSAMPLED, CLUSTERS = (16, 1024), 64, 8  # side and channels of a frame's features


def image_rms(maps: Tensor) -> Tensor:
    """Each image divided by the root mean square of its pixels' norms."""
    return maps / maps.square().sum(1).mean((1, 2)).sqrt()[:, None, None, None]


def definition(f: Tensor, g: Tensor, window: int = 3) -> Tensor:
    """Equations 1-3 pixel by pixel: [B]."""
    f, g = image_rms(f), image_rms(g)
    _, _, height, width = f.shape
    reach = range(-(window // 2), window // 2 + 1)
    cheapest = []
    for i in range(height):
        for j in range(width):
            costs = []
            for k in range(width):
                sources = [
                    (i + a, j + b, k + b)
                    for a in reach
                    for b in reach
                    if 0 <= i + a < height and 0 <= j + b < width and 0 <= k + b < width
                ]
                x = torch.stack([f[:, :, row, left] for row, left, _ in sources])  # [positions, B, C]
                y = torch.stack([g[:, :, row, right] for row, _, right in sources])
                ssd = (x - y).square().sum((0, 2)) / len(sources)
                ncc = (x * y).sum((0, 2)) / (x.square().sum((0, 2)) * y.square().sum((0, 2))).sqrt()
                costs.append(ssd + 1 - ncc)
            cheapest.append(torch.stack(costs).amin(0))
    return torch.stack(cheapest).mean(0)


def disparities(f: Tensor, g: Tensor, window: int = 3) -> Tensor:
    """One shifted map per disparity, sums over windows by a box filter: [B]."""
    f, g = image_rms(f), image_rms(g)
    width = f.shape[3]
    box = torch.ones(1, 1, window, window, dtype=f.dtype)
    costs = []
    for shift in range(1 - width, width):
        left, right = max(0, -shift), min(width, width - shift)  # columns of f whose partner exists
        x, y = f[..., left:right], g[..., left + shift : right + shift]
        maps = torch.stack([(x * y).sum(1), x.square().sum(1), y.square().sum(1), torch.ones_like(x[:, 0])])
        sums = F.conv2d(maps.flatten(0, 1)[:, None], box, padding=window // 2)[:, 0]
        dot, xx, yy, count = sums.unflatten(0, maps.shape[:2])
        cost = (xx + yy - 2 * dot) / count + 1 - dot / (xx * yy).sqrt()
        costs.append(F.pad(cost, (left, width - right), value=torch.inf))
    return torch.stack(costs).amin(0).mean((1, 2))


def products(f: Tensor, g: Tensor) -> Callable[[], None]:
    """The floor: the rows' inner products and both their gradients, from rows already in order."""
    rows_f, rows_g = (maps.detach().permute(0, 2, 3, 1).flatten(0, 1).contiguous() for maps in (f, g))
    grad = torch.randn(len(rows_f), f.shape[3], f.shape[3])

    def work() -> None:
        torch.bmm(rows_f, rows_g.transpose(1, 2))
        torch.bmm(grad, rows_g)
        torch.bmm(grad.transpose(1, 2), rows_f)

    return work


def stepping(cost: Callable[[Tensor, Tensor], Tensor], f: Tensor, g: Tensor) -> Callable[[], object]:
    """Forwards and backwards."""
    return lambda: torch.autograd.grad(cost(f, g).sum(), (f, g))


def check(f: Tensor, g: Tensor) -> None:
    """The references compute what is timed."""
    f, g = f.detach().double()[:1, :8, :5, :5], g.detach().double()[:1, :8, :5, :5]
    for reference in (definition, disparities):
        torch.testing.assert_close(reference(f, g), matching_cost(f, g), rtol=1e-9, atol=1e-9)


def measure_matching(size: tuple[int, int, int], repetitions: int) -> dict[str, Timing]:
    """Timings of one size; the loops of the definition only where that ends soon."""
    batch, channels, side = size
    rng = torch.Generator().manual_seed(0)
    f, g = (torch.randn(batch, channels, side, side, generator=rng).requires_grad_() for _ in range(2))
    check(f, g)
    works = {
        "ours": stepping(matching_cost, f, g),
        "disparities": stepping(disparities, f, g),
        "products": products(f, g),
    }
    if size == HEADLINE:
        works["definition"] = stepping(definition, f, g)
    return in_turn(works, repetitions)


def measure_clustering(repetitions: int) -> dict[int, Timing]:
    """Seconds of clustering so many frames at once."""
    side, channels = GRID
    rng = torch.Generator().manual_seed(0)
    middles = torch.randn(max(FRAMES), channels, CLUSTERS, generator=rng)
    which = torch.randint(0, CLUSTERS, (max(FRAMES), 1, side // 4, side // 4), generator=rng)
    which = which.repeat_interleave(4, 2).repeat_interleave(4, 3).flatten(2).expand(-1, channels, -1)
    features = middles.gather(2, which).unflatten(2, (side, side))
    features = features + 0.5 * torch.randn(features.shape, generator=rng)
    works = {
        str(frames): lambda part=features[:frames]: spherical_kmeans(
            part, CLUSTERS, size=(UPSAMPLED, UPSAMPLED)
        )
        for frames in FRAMES
    }
    return {int(frames): taken for frames, taken in in_turn(works, repetitions).items()}


def matching_rows(found: dict[tuple[int, int, int], dict[str, Timing]]) -> list[list[str]]:
    """One line per size."""
    rows = []
    for (batch, channels, side), taken in found.items():
        work = 6 * batch * channels * side**3 / 1e9
        moved = 16 * batch * channels * side**2 / 2**20
        slow = taken.get("definition")
        rows.append(
            [f"{batch} × {channels} × {side}²", f"{taken['ours']:1000}", f"{taken['disparities']:1000}",
             f"{slow:1000}" if slow else "", f"{taken['products']:1000}", f"{work:.3f}", f"{moved:.0f}",
             f"{work / taken['ours'].median:.1f}"]
        )  # fmt: skip
    return rows


def main() -> None:
    """Measure, print, write."""
    arguments = options(__doc__).parse_args()
    about = machine()
    repetitions = 3 if arguments.quick else 11
    sizes = SIZES[:2] if arguments.quick else SIZES
    found = {size: measure_matching(size, 3 if size == HEADLINE else repetitions) for size in sizes}
    head = ["B × C × h w", "ours, ms", "by disparities, ms", "definition, ms", "bare products, ms", "GFLOP",
            "bytes, MiB", "ours, GFLOP/s"]  # fmt: skip
    print(table(head, matching_rows(found)))
    clustering = measure_clustering(repetitions)
    print("\n" + table(["frames at once", "k-means, ms", "ms per frame"],
                       [[str(n), f"{taken:1000}", f"{taken.median / n * 1000:.1f}"]
                        for n, taken in clustering.items()]))  # fmt: skip
    one, paper = found[HEADLINE], found[SIZES[1]]
    figures = {
        "matching_reference_over_ours": one["definition"].median / one["ours"].median,
        "matching_disparities_over_ours": paper["disparities"].median / paper["ours"].median,
        "matching_floor_share": paper["products"].median / paper["ours"].median,
        "clustering_ms_per_frame": {str(n): taken.median / n * 1000 for n, taken in clustering.items()},
        "matching": {"x".join(map(str, size)): {name: timing.figures() for name, timing in taken.items()}
                     for size, taken in found.items()},
    }  # fmt: skip
    finish(figures, about, arguments.out)


if __name__ == "__main__":
    main()
