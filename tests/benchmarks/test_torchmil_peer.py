import pytest
import torch
import torchmil_peer
from training.embedding_files import write_dataset

from scripts.training.standardise import fit_standardisation
from scripts.training.training_table import EmbeddingTable


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingTable:
    return EmbeddingTable(write_dataset(tmp_path_factory.mktemp("dataset")))


def test_a_bag_holds_the_observed_patches_standardised(table: EmbeddingTable) -> None:
    bags = torchmil_peer.bags_of(table, "train")
    assert len(bags) == len(table.items("train"))
    together = torch.cat([bag.patches[0] for bag in bags])
    torch.testing.assert_close(together.mean(dim=0), torch.zeros(table.channels), atol=1e-4, rtol=0)
    observed = (bags[0].image[:, : table.channels] != 0).any(dim=1)
    assert bags[0].patches.shape == (1, int(observed.sum()), table.channels)


def test_of_epochs_of_equal_validation_auc_the_later_counts(table: EmbeddingTable) -> None:
    bags = {split: torchmil_peer.bags_of(table, split) for split in torchmil_peer.SPLITS}
    torch.manual_seed(0)
    peer = torchmil_peer.dsmil("ours", table)
    before = [weight.clone() for weight in peer.network.parameters()]
    still = {"epochs": 2, "learning_rate": 0.0, "weight_decay": 0.0, "seed": 0}
    epoch, validation, test = torchmil_peer.trained(peer, bags, **still)
    assert epoch == 2
    assert (validation, test) == (torchmil_peer.auc(peer, bags["val"]), torchmil_peer.auc(peer, bags["test"]))
    assert all(torch.equal(old, new) for old, new in zip(before, peer.network.parameters(), strict=True))
    torchmil_peer.trained(peer, bags, **still | {"learning_rate": 1e-2})
    assert not torch.equal(before[0], next(peer.network.parameters()))


def test_equal_weights_give_the_logits_and_the_loss_of_torchmil(table: EmbeddingTable) -> None:
    pytest.importorskip("torchmil", reason="pip install torchmil")
    own, theirs = (torchmil_peer.dsmil(by, table) for by in ("ours", "torchmil"))
    fit_standardisation(own.network, table.train_statistics())
    names = {"query": "q_nn", "instance": "inst_classifier", "bag": "bag_classifier"}
    for mine, its in names.items():
        getattr(own.network, mine).load_state_dict(getattr(theirs.network, its).state_dict())
    for bag in torchmil_peer.bags_of(table, "test"):
        torch.testing.assert_close(2 * own.loss(bag), theirs.loss(bag))  # ours is the mean, theirs the sum
        own.network.eval()
        torch.testing.assert_close(own.score(bag), theirs.score(bag))
        own.network.train()
