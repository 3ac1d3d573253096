"""The metrics of the published comparison against StyleID's own evaluation, and against other ways to compute them."""

import math

import numpy as np
import pytest
import torch
from magicstyle.benchmarks.published import metrics, networks
from magicstyle.tests.benchmarks.metric_files import SHAPES, random_set, random_weights

# What StyleID's evaluation (d4ea655, on lpips 0.1.4, torchvision 0.28 and scipy 1.17) says about random_set() with the
# networks of random_weights(), its resizing to 512 left out
THEIRS = {
    "FID": 0.5662669303944347,
    "LPIPS": 0.18115435540676117,
    "ArtFID": 1.8500030040740967,
    "CFSD": 0.32679006457328796,
    "colour histogram": 0.27220505475997925,
}


@pytest.fixture(scope="module")
def weights():
    return {kind: random_weights(kind) for kind in SHAPES}


@pytest.fixture(scope="module")
def pictures():
    """Results of 3 x 4 pairs with the content and the style of each."""
    contents, styles, results = random_set()
    return results, contents.repeat_interleave(4, dim=0), styles.repeat(3, 1, 1, 1)


@pytest.fixture(scope="module")
def features(weights, pictures):
    results, _, styles = pictures
    return [networks.inception_features(weights["art_inception"], x).double() for x in (results, styles[:4])]


def pair_metrics(weights):
    lpips = metrics.Lpips(weights["alexnet"], weights["lpips_alex"])
    return [lpips, metrics.Cfsd(weights["vgg19"]), metrics.ColourHistogram()]


@pytest.mark.parametrize("index, tolerance", [(0, 1e-5), (1, 1e-4), (2, 1e-5)], ids=["LPIPS", "CFSD", "histogram"])
def test_metrics_of_pairs_are_those_of_styleids_evaluation(weights, pictures, index, tolerance):
    metric = pair_metrics(weights)[index]
    scores = metric(*pictures)
    assert scores.shape == (12,)
    assert float(scores.mean()) == pytest.approx(THEIRS[metric.name], rel=tolerance)


def test_fid_and_artfid_are_those_of_styleids_evaluation(weights, pictures, features):
    value = metrics.fid(*features)
    lpips = float(pair_metrics(weights)[0](*pictures).mean())
    # two threads sum the network's single-precision features in another order than one: FID 2e-5 apart
    assert value == pytest.approx(THEIRS["FID"], rel=1e-4)
    assert metrics.art_fid(value, lpips) == pytest.approx(THEIRS["ArtFID"], rel=1e-4)


def test_a_metric_of_a_picture_with_itself_is_nothing(weights, pictures):
    results = pictures[0][:2]
    for metric in pair_metrics(weights):
        assert metric(results, results, results).abs().max() < 1e-6, metric.name


def test_the_nuclear_norm_is_the_trace_of_the_square_root(features):
    """Regular covariances, where the eigenvalues of S1 S2 say the same."""
    a, b = (x[:, :3] + 0.1 * torch.randn(len(x), 3, generator=torch.Generator().manual_seed(9)) for x in features)
    s1, s2 = np.cov(a.numpy(), rowvar=False), np.cov(b.repeat(3, 1).numpy(), rowvar=False)
    trace = np.sqrt(np.linalg.eigvals(s1 @ s2).real).sum()
    moved = np.square(a.numpy().mean(0) - b.numpy().mean(0)).sum()
    assert metrics.fid(a, b) == pytest.approx(moved + np.trace(s1) + np.trace(s2) - 2 * trace, rel=1e-9)


def test_styles_count_as_often_as_they_have_results(features):
    results, styles = features
    assert metrics.fid(results, styles) == pytest.approx(metrics.fid(results, styles.repeat(3, 1)), rel=1e-9)


def test_cfsd_is_the_dense_formula_in_any_blocks(weights, pictures, monkeypatch):
    results, contents, styles = (x[:2] for x in pictures)
    q, p = (networks.vgg19_features(weights["vgg19"], x).double().flatten(2).mT / 256 for x in (results, contents))
    log_q, log_p = ((x @ x.mT).log_softmax(dim=2) for x in (q, p))
    dense = (log_p.exp() * (log_p - log_q)).sum(dim=(1, 2))
    assert dense.min() > 0.01  # scaled weights: unscaled ones would give nothing to compare
    monkeypatch.setattr(metrics, "ROWS", 100)
    found = metrics.Cfsd(weights["vgg19"])(results, contents, styles)
    assert torch.allclose(found.double(), dense, rtol=1e-4)


def test_histograms_sum_to_one_and_know_a_colour():
    red = torch.tensor([0.8, 0.2, 0.2]).view(3, 1, 1).expand(3, 10, 12)
    found = metrics.histogram(red)
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-4)
    u = round((math.log(0.8 / 0.2) + 3) / 6 * 63)
    assert found[0].argmax() == u * 64 + u


def test_bootstrap_draws_whole_rows_and_columns_and_the_same_ones_again():
    seen = []

    def statistic(pairs):
        seen.append(pairs)
        return {"mean": float(pairs.mean())}

    first = metrics.bootstrap(statistic, 3, 4, rounds=5)
    assert metrics.bootstrap(statistic, 3, 4, rounds=5) == first
    for pairs in seen:
        grid = pairs.reshape(3, 4)
        assert (grid // 4 == grid[:, :1] // 4).all() and (grid % 4 == grid[:1] % 4).all()
    assert len({tuple(pairs) for pairs in seen}) == 5


def test_an_interval_of_a_mean_covers_as_the_normal_distribution_says():
    values = np.random.default_rng(1).normal(size=2000)
    draws = metrics.bootstrap(lambda pairs: {"mean": float(values[pairs].mean())}, 2000, 1, rounds=300)
    assert metrics.half_width([draw["mean"] for draw in draws]) == pytest.approx(1.96 / 2000**0.5, rel=0.15)


def test_networks_read_as_many_tensors_as_their_definitions_have():
    inception = networks.inception_shapes()
    assert sum(name.endswith("conv.weight") for name in inception) == 94
    # torchvision's Inception v3 without auxiliary and final layers
    assert sum(math.prod(shape) for name, shape in inception.items() if "running" not in name) == 21_785_568
    assert sum(math.prod(shape) for shape in networks.alexnet_shapes().values()) == 2_469_696
