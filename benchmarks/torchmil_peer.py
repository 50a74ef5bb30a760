"""DSMIL and TransMIL of this project beside those of torchmil: the same features, order of slides, optimizer and steps.

    pip install torchmil==1.0.2
    python benchmarks/torchmil_peer.py --dataset_dir nic --output_dir peer --seeds 0 1 2

Each network sees one slide per step, its observed patches alone, since torchmil's take bags of one size; V is standardised by the training
slides. No slide is augmented. Of all epochs the one of highest validation AUC counts, of equal ones the later. torchmil.csv has a row per
network and seed; the last lines say whether the means over the seeds lie within --within of each other.

torchmil 1.0.2: DSMIL's layers are ours one by one (nonlinear_q), so that equal weights give equal logits
(tests/benchmarks/test_torchmil_peer.py). TransMIL has neither ReLU behind the first layer nor the convolution of the values nor the
projection behind the attention, which the authors' code has, as ours.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "bundle"), str(REPO / "benchmarks")]

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from scripts.baselines.dsmil import BothLosses, Dsmil
from scripts.baselines.pooled import MeanPooling
from scripts.baselines.transmil import TransMil
from scripts.common.files import write_csv
from scripts.comparison.methods import METHODS
from scripts.dsnet.baseline import Baseline
from scripts.slides.table import SPLITS
from scripts.training.batches import image_of
from scripts.training.standardise import fit_standardisation
from scripts.training.training_table import EmbeddingTable
from scripts.training.transforms import LoadEmbeddingd

COLUMNS = ("method", "by", "seed", "epochs", "learning_rate", "weight_decay", "epoch", "validation_auc", "test_auc")


@dataclass(frozen=True)
class Bag:
    """A slide.

    Attributes:
        image: (1, C + 12L, H, W), what our networks take.
        patches: (1, N, C), what torchmil's take: its observed patches, standardised.
        label: (1,), 0 or 1.
    """

    image: Tensor
    patches: Tensor
    label: Tensor


@dataclass(frozen=True)
class Peer:
    """A network in training.

    Attributes:
        network: it.
        loss: of one bag.
        score: of one bag, higher for the second class.
    """

    network: nn.Module
    loss: Callable[[Bag], Tensor]
    score: Callable[[Bag], Tensor]


def ours(network: Baseline, table: EmbeddingTable, loss: nn.Module) -> Peer:
    """A network of ours, with V standardised as in training."""
    fit_standardisation(network, table.train_statistics())
    return Peer(
        network, lambda bag: loss(network(bag.image), bag.label), lambda bag: network(bag.image)[0].diff().squeeze()
    )


def torchmils(network: nn.Module) -> Peer:
    """A network of torchmil, with the loss of its own."""
    return Peer(
        network,
        lambda bag: sum(network.compute_loss(bag.label.float(), bag.patches)[1].values()),
        lambda bag: network.predict(bag.patches, return_inst_pred=False).squeeze(),
    )


def dsmil(by: str, table: EmbeddingTable) -> Peer:
    """DSMIL, of the same layers."""
    if by == "ours":
        return ours(Dsmil(embedding_channels=table.channels), table, BothLosses(nn.CrossEntropyLoss()))
    from torchmil.models import DSMIL

    return torchmils(DSMIL(in_shape=(table.channels,), att_dim=128, nonlinear_q=True))


def transmil(by: str, table: EmbeddingTable) -> Peer:
    """TransMIL, of the same width, heads, landmarks and dropout."""
    if by == "ours":
        return ours(TransMil(embedding_channels=table.channels), table, nn.CrossEntropyLoss())
    from torchmil.models import TransMIL

    return torchmils(TransMIL(in_shape=(table.channels,), att_dim=128, n_heads=8, dropout=0.1))


PEERS: dict[str, Callable[[str, EmbeddingTable], Peer]] = {"dsmil": dsmil, "transmil": transmil}


def bags_of(table: EmbeddingTable, split: str) -> list[Bag]:
    """The slides of a split, in the order of the table."""
    load, network = LoadEmbeddingd(), MeanPooling(embedding_channels=table.channels)
    fit_standardisation(network, table.train_statistics())
    found = []
    for item in table.items(split):
        image = image_of(load(item)).float()
        v, o = network.patches(image)
        found.append(Bag(image, v[0][:, o[0, 0] > 0].T[None], torch.tensor([int(item["label"])])))
    return found


def auc(peer: Peer, bags: Sequence[Bag]) -> float:
    """Of a split."""
    peer.network.eval()
    with torch.no_grad():
        scores = [float(peer.score(bag)) for bag in bags]
    return float(roc_auc_score([int(bag.label) for bag in bags], scores))


def trained(
    peer: Peer, bags: dict[str, list[Bag]], *, epochs: int, learning_rate: float, weight_decay: float, seed: int
) -> tuple[int, float, float]:
    """Train, and return the chosen epoch, from 1, with its AUC on validation and test slides."""
    optimizer = torch.optim.AdamW(
        [weight for weight in peer.network.parameters() if weight.requires_grad],
        learning_rate,
        weight_decay=weight_decay,
    )
    order = torch.Generator().manual_seed(seed)
    best = (0, -1.0, -1.0)
    for epoch in range(1, epochs + 1):
        peer.network.train()
        for place in torch.randperm(len(bags["train"]), generator=order).tolist():
            optimizer.zero_grad()
            peer.loss(bags["train"][place]).backward()
            optimizer.step()
        found = auc(peer, bags["val"])
        if found >= best[1]:
            best = (epoch, found, auc(peer, bags["test"]))
    return best


def main(arguments: Sequence[str] | None = None) -> list[dict[str, object]]:
    """Train both of each method per seed, write torchmil.csv, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True, help="slides.csv and an embedding per slide")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max_epochs", type=int, default=20)
    parser.add_argument("--learning_rate", type=float, help="(that of the method's overlay)")
    parser.add_argument("--weight_decay", type=float, default=1e-5)
    parser.add_argument("--within", type=float, default=0.03, help="of the mean test AUC (0.03)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    table = EmbeddingTable(given.dataset_dir)
    bags = {split: bags_of(table, split) for split in SPLITS}
    rows: list[dict[str, object]] = []
    for method in given.methods:
        learning_rate = given.learning_rate or METHODS[method].config()["learning_rate"]
        for seed in given.seeds:
            for by in ("ours", "torchmil"):
                torch.manual_seed(seed)
                peer = PEERS[method](by, table)
                epoch, validation, test = trained(
                    peer,
                    bags,
                    epochs=given.max_epochs,
                    learning_rate=learning_rate,
                    weight_decay=given.weight_decay,
                    seed=seed,
                )
                said = (method, by, seed, given.max_epochs, learning_rate, given.weight_decay, epoch, validation, test)
                rows.append(dict(zip(COLUMNS, said, strict=True)))
                print(
                    f"{method} by {by}, seed {seed}: epoch {epoch}, validation AUC {validation:.3f}, test {test:.3f}",
                    flush=True,
                )
                write_csv(given.output_dir / "torchmil.csv", COLUMNS, rows)
    for method in given.methods:
        means = [
            sum(row["test_auc"] for row in rows if (row["method"], row["by"]) == (method, by)) / len(given.seeds)
            for by in ("ours", "torchmil")
        ]
        verdict = "within" if abs(means[0] - means[1]) <= given.within else "NOT within"
        print(f"{method}: ours {means[0]:.3f}, torchmil {means[1]:.3f}, {verdict} {given.within}")
    return rows


if __name__ == "__main__":
    main()
