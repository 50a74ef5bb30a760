import pytest
import torch
from random_matrices import random_image
from test_dsnet_padding import pad, stack

from scripts.common.errors import RequestError
from scripts.dsnet.decoder import double_aligned
from scripts.dsnet.segmentation import NO_TISSUE_LOGIT, DSNetSegmentation

SIZES_YX = ((9, 7), (6, 11), (1, 1), (2, 3))


def network_of(**options: bool) -> DSNetSegmentation:
    """A network whose norms and biases hold values that would show on empty positions."""
    torch.manual_seed(0)
    network = DSNetSegmentation(**options).double().eval()
    for name, tensor in network.state_dict().items():
        if name.endswith(("bias", "running_mean", "standardise.mean")):
            tensor.normal_(std=0.3)
    return network


def test_a_logit_for_every_observed_patch() -> None:
    network, image = network_of(), random_image(13, 10)[None].double()
    logits = network(image)
    observed = (image[:, :128] != 0).any(dim=1, keepdim=True)
    assert logits.shape == (1, 1, 13, 10)
    assert (logits[~observed] == NO_TISSUE_LOGIT).all()
    assert logits[observed].unique().numel() == observed.sum()


@pytest.mark.parametrize("sparse", [True, False])
def test_a_slide_has_the_same_map_alone_and_in_a_padded_batch(sparse: bool) -> None:
    network = network_of(sparse=sparse)
    images = [random_image(*size, seed=index).double() for index, size in enumerate(SIZES_YX)]
    together = network(stack([pad(image, right=3, bottom=2) for image in images]))
    for image, logits in zip(images, together, strict=True):
        height, width = image.shape[1:]
        torch.testing.assert_close(logits[:, :height, :width], network(image[None])[0], rtol=1e-7, atol=1e-9)
        assert (logits[:, height:] == NO_TISSUE_LOGIT).all() and (logits[:, :, width:] == NO_TISSUE_LOGIT).all()


def test_the_slide_is_as_suspicious_as_its_worst_patch() -> None:
    network, images = network_of(), stack([random_image(9, 7, seed=seed).double() for seed in (1, 2)])
    logits, stream_score, channel_scores = network.attend(images)
    torch.testing.assert_close(
        torch.softmax(logits, dim=1)[:, 1], torch.sigmoid(network(images)).amax(dim=(1, 2, 3)), rtol=1e-9, atol=1e-12
    )
    assert stream_score.shape == (2,) and channel_scores.shape == (2, 320)


def test_the_decoder_sees_single_patches() -> None:
    """V enters at full resolution: what a change of one patch moves most lies within the last 5x5 window around it."""
    network, image = network_of(), random_image(20, 20, share=1.0)[None].double()
    changed = image.clone()
    changed[0, :128, 7, 11] += 3.0
    difference = (network(changed) - network(image)).abs()[0, 0]
    row, column = divmod(int(difference.argmax()), 20)
    assert abs(row - 7) <= 2 and abs(column - 11) <= 2


@pytest.mark.parametrize("switch", ["thumbnail_stream", "multi_scale", "concurrent_bottleneck", "stream_attention"])
def test_it_scripts_whatever_is_left_out(switch: str) -> None:
    network = DSNetSegmentation(**{switch: False}).eval()
    image = random_image(9, 6)[None]
    scripted = torch.jit.script(network)
    torch.testing.assert_close(scripted(image), network(image))
    torch.testing.assert_close(scripted.attend(image)[0], network.attend(image)[0])


def test_doubling_is_aligned_and_ignores_empty_cells() -> None:
    x, o = torch.tensor([[[[0.0, 4.0, 100.0]]]]), torch.ones(1, 1, 1, 3)
    full = double_aligned(x, o, torch.ones(1, 1, 1, 6))
    assert full[0, 0, 0].tolist() == [0, 2, 4, 52, 100, 100]
    assert double_aligned(x, o, torch.ones(1, 1, 1, 5))[0, 0, 0].tolist() == [0, 2, 4, 52, 100]
    o[..., 2] = 0
    target = torch.tensor([[[[1.0, 1.0, 0.0, 1.0, 1.0, 1.0]]]])
    assert double_aligned(x * o, o, target)[0, 0, 0].tolist() == [0, 2, 0, 4, 0, 0]


def test_doubling_inverts_taking_every_second_cell_of_a_plane() -> None:
    plane = torch.arange(11.0)[:, None] * 3 + torch.arange(9.0)[None]
    doubled = double_aligned(plane[None, None, ::2, ::2], torch.ones(1, 1, 6, 5), torch.ones(1, 1, 11, 9))
    torch.testing.assert_close(doubled[0, 0], plane)


def test_other_than_two_classes_are_refused() -> None:
    with pytest.raises(RequestError, match=r"3 classes, expected 2.*leave segment_train\.yaml out"):
        DSNetSegmentation(3)
