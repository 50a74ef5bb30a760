"""A random forest in tensors, so that it travels with a network's weights and runs wherever the network does."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..common.option_table import checked
from ..common.option_types import Whole
from ..dsnet.baseline import Fitted

MOST_DEPTH = 12  # a tree has room for all nodes down to there


class Forest(nn.Module):
    """The mean of the answers of decision trees (Breiman 2001); before it is fitted all classes are as likely.

    Args:
        classes: of the slide label.
        trees: of the forest.
        depth: of a tree, at most.
    """

    def __init__(self, classes: int, *, trees: int, depth: int) -> None:
        super().__init__()
        checked("network_def#depth", depth, Whole(least=1, most=MOST_DEPTH))
        nodes = 2 ** (depth + 1) - 1
        self.trees = trees
        self.depth = depth
        self.next = Fitted(trees, 2, nodes)  # node that follows: split not exceeded, exceeded; a leaf leads to itself
        self.figure = Fitted(trees, nodes)  # which figure a node looks at
        self.split = Fitted(trees, nodes)
        self.answer = Fitted(trees, nodes, classes)
        self.answer.values.fill_(1 / classes)

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities (B, classes) of figures (B, F)."""
        node = torch.zeros(self.trees, x.shape[0], dtype=torch.long, device=x.device)
        figures = x.t().unsqueeze(0).expand(self.trees, -1, -1)  # (trees, F, B)
        for _ in range(self.depth):
            figure = self.figure.values.gather(1, node).long().unsqueeze(1)
            exceeded = figures.gather(1, figure).squeeze(1) > self.split.values.gather(1, node)
            kept, passed = self.next.values[:, 0].gather(1, node), self.next.values[:, 1].gather(1, node)
            node = torch.where(exceeded, passed, kept).long()
        places = node.unsqueeze(2).expand(-1, -1, self.answer.values.shape[2])
        return self.answer.values.gather(1, places).mean(dim=0)

    @torch.jit.unused
    def fit(self, x: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """Grow the trees, by scikit-learn and always alike, on figures (N, F) and class indices (N,); a class may be missing."""
        from sklearn.ensemble import RandomForestClassifier  # takes a second, which no inference needs

        forest = RandomForestClassifier(self.trees, max_depth=self.depth, random_state=0).fit(x, labels)
        for values in (self.next.values, self.figure.values, self.split.values, self.answer.values):
            values.zero_()
        for index, grown in enumerate(forest.estimators_):
            tree, count = grown.tree_, grown.tree_.node_count
            is_leaf = tree.children_left < 0
            here = np.arange(count)
            for side, children in enumerate((tree.children_left, tree.children_right)):
                self.next.values[index, side, :count] = torch.as_tensor(np.where(is_leaf, here, children)).float()
            self.figure.values[index, :count] = torch.as_tensor(np.where(is_leaf, 0, tree.feature)).float()
            self.split.values[index, :count] = torch.as_tensor(tree.threshold).float()
            shares = tree.value[:, 0] / tree.value[:, 0].sum(axis=1, keepdims=True)
            self.answer.values[index, :count, forest.classes_] = torch.as_tensor(shares).float().to(self.answer.values)
