import pytest
import torch
from random_matrices import random_image
from torch import Tensor
from torch.nn import functional as F

from scripts.dsnet.blocks import DenseUnit
from scripts.dsnet.network import DSNet
from scripts.dsnet.sparse import SparseUnit

ABLATIONS = (
    {"sparse": False},
    {"thumbnail_stream": False},
    {"multi_scale": False},
    {"concurrent_bottleneck": False},
    {"spatial_bottleneck": False},
    {"stream_attention": False},
    {"channel_attention": False},
    {"stream_attention": False, "channel_attention": False},
)


def network_of(**options: bool | int) -> DSNet:
    torch.manual_seed(0)
    return DSNet(**options)  # type: ignore[arg-type]


def batch_of(count: int, height: int, width: int, **options: int) -> Tensor:
    return torch.stack([random_image(height, width, seed=seed, **options) for seed in range(count)])  # type: ignore[arg-type]


def test_parameters_of_two_classes_are_1_1_million() -> None:
    count = sum(parameter.numel() for parameter in network_of().parameters() if parameter.requires_grad)
    assert 1.05e6 < count < 1.15e6


def test_widths_and_steps_are_those_of_table_1() -> None:
    network = network_of()
    assert network.thumbnail_stem is not None
    stem = network.thumbnail_stem.conv
    assert (stem.in_channels, stem.out_channels, stem.kernel_size, stem.stride) == (9, 32, (7, 7), (2, 2))
    thumbnail = [(b.branches[0].conv.in_channels, b.join.norm.weight.numel()) for b in network.thumbnail_blocks]
    assert thumbnail == [(32, 64), (64, 144), (144, 256), (256, 320)]
    assert [block.branches[0].stride for block in network.thumbnail_blocks] == [1, 2, 2, 1]
    embedding = [(b.reduce.conv.conv.in_channels, b.expand.norm.weight.numel()) for b in network.embedding_blocks]
    assert embedding == [(128, 144), (144, 224), (224, 256), (256, 320)]
    assert [block.outer.conv.stride for block in network.embedding_blocks] == [2, 1, 2, 1]
    assert [block.outer.conv.kernel_size for block in network.embedding_blocks] == [5, 5, 5, 5]
    assert network.head.conv.conv.weight.shape == (640, 320, 1, 1)
    assert [layer.weight.shape for layer in network.classifier if hasattr(layer, "weight")] == [(128, 1280), (2, 128)]


@pytest.mark.parametrize("options", ABLATIONS, ids=lambda options: "+".join(options))
def test_every_ablation_trains_scripts_and_changes_the_result(options: dict[str, bool]) -> None:
    full, ablated = network_of(), network_of(**options)
    shared, own = full.state_dict(), ablated.state_dict()
    same = {name: tensor for name, tensor in shared.items() if name in own and own[name].shape == tensor.shape}
    ablated.load_state_dict(same, strict=False)
    images = batch_of(2, 9, 8)
    logits = ablated(images)
    assert (logits - full(images)).abs().max() > 1e-3
    F.cross_entropy(logits, torch.tensor([0, 1])).backward()
    unused = [name for name, p in ablated.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert unused == []
    ablated.eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(ablated)(images), ablated(images))


@pytest.mark.parametrize(
    ("classes", "embedding_channels", "levels"),
    [(2, 128, 3), (5, 384, 1), (1, 16, 2)],
)
def test_channels_and_classes_are_free(classes: int, embedding_channels: int, levels: int) -> None:
    network = network_of(num_classes=classes, embedding_channels=embedding_channels, thumbnail_levels=levels)
    images = batch_of(2, 6, 5, embedding_channels=embedding_channels, levels=levels)
    assert network(images).shape == (2, classes)


def test_attentions_are_outputs() -> None:
    network = network_of().eval()
    images = batch_of(3, 9, 7)
    logits, stream_score, channel_scores = network.attend(images)
    torch.testing.assert_close(logits, network(images), rtol=0, atol=0)
    assert logits.shape == (3, 2) and stream_score.shape == (3,) and channel_scores.shape == (3, 320)
    assert ((stream_score > 0) & (stream_score < 1)).all() and len(set(stream_score.tolist())) == 3
    assert ((channel_scores > 0) & (channel_scores < 1)).all() and channel_scores.std() > 0


def test_attentions_that_are_switched_off_are_constant() -> None:
    images = batch_of(2, 6, 5)
    _, stream_score, _ = network_of(thumbnail_stream=False).attend(images)
    assert stream_score.tolist() == [1.0, 1.0]
    _, stream_score, _ = network_of(stream_attention=False).attend(images)
    assert stream_score.tolist() == [0.5, 0.5]
    _, _, channel_scores = network_of(channel_attention=False).attend(images)
    assert channel_scores.shape == (2, 320) and (channel_scores == 1).all()


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_stream_score_is_the_share_of_the_embedding_stream(score: float) -> None:
    network = network_of().eval()
    assert network.stream_attention is not None
    network.stream_attention.register_forward_hook(lambda module, inputs, output: torch.full_like(output, score))
    images = batch_of(1, 8, 8).requires_grad_()
    network(images).sum().backward()
    assert images.grad is not None
    local, regional = images.grad[:, :128].abs().max(), images.grad[:, 128:].abs().max()
    assert (local > 0, regional > 0) == ((True, False) if score == 1.0 else (False, True))


@pytest.mark.parametrize("size_yx", [(1, 1), (2, 9), (5, 6), (9, 7), (12, 16)])
def test_both_streams_end_on_a_quarter_of_the_grid_of_v(size_yx: tuple[int, int]) -> None:
    network = network_of().eval()
    shapes = []
    for block in (network.embedding_blocks[-1], network.thumbnail_blocks[-1]):
        block.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output[0].shape)))
    network(batch_of(1, *size_yx))
    assert shapes == [(1, 320, -(-size_yx[0] // 4), -(-size_yx[1] // 4))] * 2


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_thumbnail_pixels_meet_the_embedding_of_their_patch(a: int, b: int) -> None:
    # Pixel (2i + a, 2j + b) of T reaches the stem's cells y with |2y - (2i + a)| <= 3, which is around row i of V.
    network, (i, j) = network_of().eval(), (5, 7)
    assert network.thumbnail_stem is not None
    maps: list[Tensor] = []
    network.thumbnail_stem.register_forward_hook(lambda module, inputs, output: maps.append(output[0][0]))
    image = batch_of(1, 12, 14)
    moved = image.clone()
    moved[0, 128 + 2 * a + b, i, j] += 1.0
    network(image), network(moved)
    rows, columns = torch.nonzero((maps[0] != maps[1]).any(dim=0), as_tuple=True)
    assert (rows.min(), rows.max()) == (i - 1, i + 1 + a)
    assert (columns.min(), columns.max()) == (j - 1, j + 1 + b)


def test_unobserved_patches_enter_the_first_block_as_exact_zeros() -> None:
    network = network_of().eval()
    network.standardise.mean.fill_(3.0)
    network.standardise.deviation.fill_(0.1)
    entered: list[Tensor] = []
    network.embedding_blocks[0].register_forward_pre_hook(lambda module, inputs: entered.extend(inputs[0]))
    images = batch_of(2, 8, 9)
    network(images)
    v, o, _ = entered
    assert torch.equal(o, (images[:, :128] != 0).any(dim=1, keepdim=True).float())
    assert (v[o.expand_as(v) == 0] == 0).all()
    torch.testing.assert_close(v, (images[:, :128] - 3.0) / 0.1 * o)


def test_the_head_sees_exact_zeros_off_the_mask() -> None:
    network = network_of().eval()
    entered: list[Tensor] = []
    network.head.register_forward_pre_hook(lambda module, inputs: entered.extend(inputs[0]))
    images = torch.zeros(1, 164, 64, 60)
    images[0, 128:] = 0.5  # tissue on the thumbnail everywhere, patches in two corners
    images[0, :128, 0, 0] = images[0, :128, 63, 59] = 1.0
    network(images)
    fused, o, _ = entered
    assert 0 < o.sum() < o.numel()
    assert (fused[o.expand_as(fused) == 0] == 0).all() and (fused[o.expand_as(fused) == 1] != 0).all()


@pytest.mark.parametrize("position_yx", [(0, 0), (1, 1), (3, 5)])
def test_a_slide_of_one_patch_anywhere_is_classified_by_that_patch(position_yx: tuple[int, int]) -> None:
    network = network_of(thumbnail_stream=False)  # in training, where the norms keep the difference large
    images = torch.zeros(2, 164, 6, 7)
    for image, seed in zip(images, (0, 1), strict=True):
        image[:128, position_yx[0], position_yx[1]] = torch.randn(128, generator=torch.Generator().manual_seed(seed))
    logits = network(images)
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@pytest.mark.parametrize("first_yx", [(0, 0), (1, 1), (3, 6), (5, 2)])
def test_both_streams_keep_the_same_extent(first_yx: tuple[int, int]) -> None:
    network = network_of().eval()
    extents: list[Tensor] = []
    for block in (network.embedding_blocks[-1], network.thumbnail_blocks[-1]):
        block.register_forward_hook(lambda module, inputs, output: extents.append(output[-1]))
    image = torch.zeros(1, 164, 14, 15)
    image[:, :, first_yx[0], first_yx[1]] = image[:, :, 10, 9] = 1.0
    network(image)
    expected = torch.zeros(1, 1, 4, 4)
    expected[..., first_yx[0] // 4 : 3, first_yx[1] // 4 : 3] = 1
    assert torch.equal(extents[0], expected) and torch.equal(extents[1], expected)


def test_nothing_observed_is_finite_forward_and_backward() -> None:
    network = network_of()
    images = batch_of(2, 6, 5)
    images[1, :128] = 0
    logits = network(images)
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_half_precision_is_close_to_single() -> None:
    network = network_of().eval()
    images = batch_of(2, 9, 8, share=0.1)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        half = network(images)
    torch.testing.assert_close(half.float(), network(images), rtol=0, atol=0.01)


def test_mask_coverage_starts_with_the_share_observed() -> None:
    shares = network_of().mask_coverage(batch_of(1, 24, 20, share=0.02))
    assert len(shares) == 5
    observed = (random_image(24, 20, share=0.02)[:128] != 0).any(dim=0).double().mean().item()  # type: ignore[arg-type]
    assert shares[0] == pytest.approx(observed)
    assert shares == sorted(shares) and shares[0] < 0.1 < shares[1] <= shares[-1] <= 1.0


def test_same_seed_same_training() -> None:
    def train() -> dict[str, Tensor]:
        network = network_of()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        for step in range(2):
            optimizer.zero_grad()
            images = batch_of(2, 6 + step, 5)
            F.cross_entropy(network(images), torch.tensor([0, 1])).backward()
            optimizer.step()
        return network.state_dict()

    first, second = train(), train()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("options", ({}, *ABLATIONS), ids=lambda options: "+".join(options) or "full")
def test_maps_and_their_gradients_stay_channels_last(options: dict[str, bool]) -> None:
    mixed: set[str] = set()

    def check(name: str, kind: str, tensors: tuple[Tensor, ...]) -> None:
        for x in tensors:
            if x is not None and x.ndim == 4 and not x.is_contiguous(memory_format=torch.channels_last):
                mixed.add(f"{kind} of {name}")

    network = network_of(**options).to(memory_format=torch.channels_last)
    for name, module in network.named_modules():
        if isinstance(module, SparseUnit | DenseUnit):
            module.register_forward_hook(lambda _, __, out, name=name: check(name, "map", out))
            module.norm.register_forward_pre_hook(
                lambda _, given, name=name: given[0].register_hook(lambda x: check(name, "gradient", (x,))) and None
            )
    images = batch_of(2, 9, 8).contiguous(memory_format=torch.channels_last)
    F.cross_entropy(network(images), torch.tensor([0, 1])).backward()
    assert not mixed
